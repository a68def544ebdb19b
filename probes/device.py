"""Where torch fits probes, and on how many threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

# From here on the products and factorisations of a fold are worth more than one thread.
MANY_ROWS = 1500


@contextmanager
def fewer_threads(n: int) -> Iterator[None]:
    """Compute on one thread while open if there are fewer than `MANY_ROWS` rows.

    Threads that wait for each other over small matrices are up to fifty times slower on a busy machine. The numbers
    of threads of torch and of numpy's BLAS are those of the whole process, and are put back at the end.
    """
    if n >= MANY_ROWS:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


def resolve_device(device: str, *, caller: str) -> str:
    """Name the device for "auto", a GPU where there is one, and refuse one that is not there.

    Raises:
        ValueError: torch cannot use it.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f'The device parameter of {caller} must be "auto", "cpu" or a GPU that torch can use, such as "cuda". '
            f"Got {device!r} instead: {error}"
        ) from error
    return device
