__version__: str

from .extract import extract as extract
from .extract import items_hash as items_hash
from .extract import load_checkpoint as load_checkpoint
from .extract import load_items as load_items
from .extract import open_run as open_run
from .settings import Study as Study
from .settings_file import load_study as load_study
from .study import StudyResult as StudyResult
from .study import run_study as run_study
