"""doubtlens: does a language model doubt where people doubt?

Names are imported on first use, so that ``import doubtlens`` and ``doubtlens --help`` stay fast.
"""

import lazy_loader as _lazy

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
