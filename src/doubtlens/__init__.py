"""doubtlens: does a language model doubt where people doubt?

Names are imported on first use, so that ``import doubtlens`` and ``doubtlens --help`` stay fast.
"""

import importlib as _importlib
from typing import Any as _Any

import lazy_loader as _lazy

__version__ = "0.1.0"

_lazy_getattr, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)


def __getattr__(name: str) -> _Any:
    # The stage `doubtlens.extract` and the function share a name; the stage can be called like the function.
    if name == "extract":
        return _importlib.import_module("doubtlens.extract")
    return _lazy_getattr(name)
