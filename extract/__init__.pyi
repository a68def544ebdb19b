from .statistics import largest_logits as largest_logits
from .statistics import logit_statistics as logit_statistics
