"""From items and a checkpoint to a run file: prompts, capture and the HDF5 store."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
