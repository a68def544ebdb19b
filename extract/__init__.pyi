from .statistics import largest_logits as largest_logits
from .statistics import logit_statistics as logit_statistics
from .datasets import known_datasets as known_datasets
from .datasets import load_items as load_items
from .items import items_hash as items_hash
from .items import validate_items as validate_items
from .prompts import PROMPTS as PROMPTS
from .prompts import render_prompts as render_prompts
from .capture import Interrupted as Interrupted, extract as extract
from .checkpoints import Checkpoint as Checkpoint, load_checkpoint as load_checkpoint
from .store import Run as Run, open_run as open_run
