"""From items and a checkpoint to a run file: prompts, capture and the HDF5 store.

``doubtlens.extract`` is this package and the function `doubtlens.extract.extract` alike: the package can be called,
so that ``from doubtlens import extract`` means the same whatever was imported before.
"""

import sys as _sys
from types import ModuleType as _ModuleType
from typing import Any as _Any

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)


class _CallableStage(_ModuleType):
    def __call__(self, *args: _Any, **kwargs: _Any) -> _Any:
        from .capture import extract

        return extract(*args, **kwargs)


_sys.modules[__name__].__class__ = _CallableStage
