from .measure_table import MEASURES as MEASURES
from .measure_table import direction as direction
from .measures import output_measures as output_measures
from .targets import human_targets as human_targets
