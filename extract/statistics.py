"""Vocabulary-wide statistics of rows of logits, computed once for `full` and `summary` runs alike.

For a row z of V logits, p = softmax(z), all sums in float64:

1. x = z - max z and w = exp(x), so p = w / sum w. An entropy over any set S of tokens, renormalised, is
   ln(sum_S w) - sum_S(w x) / sum_S w: two terms that cannot be negative, hence no cancellation.
2. The whole vocabulary gives the log-sum-exp, the entropy and the varentropy, in passes that fit a cache.
3. Top-k and nucleus statistics need the largest logits only. A partial selection of `HEAD` values decides
   almost every row; a row whose nucleus is wider is sorted in full. Equal logits have equal p, so how ties
   are ordered changes no statistic.
4. On a CUDA device steps 2 and the selection run there, and only the selected values are copied back.

Nucleus conventions (sorted descending, p cumulated in float64): `inclusive` keeps a token while the sum
before it is < p - 1e-9 (Holtzman et al. 2020, https://arxiv.org/abs/1904.09751); `exclusive` is the longest
prefix whose sum is <= p, without a tolerance, and may be empty (https://arxiv.org/abs/2508.08204).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch

NUCLEI = ("inclusive", "exclusive")
TOP_K = (5, 10, 25, 50, 100)
TOP_P = (0.95, 0.9, 0.75, 0.5)

HEAD = 1024
INCLUSIVE_TOLERANCE = 1e-9
# exp(-800) is 0 in float64: a floor for -inf that keeps w * x at 0 instead of NaN and changes no other term.
_LOWEST = -800.0
_BLOCK_ELEMENTS = 2**22  # read from disk or processed on a GPU at once: 16 MiB of float32
_CACHE_ELEMENTS = 2**17  # float64 work arrays of 1 MiB


def logit_statistics(
    logits: Any, *, top_k: Sequence[int] | None = None, top_p: Sequence[float] = TOP_P
) -> dict[str, np.ndarray]:
    """Compute every statistic of the softmax of each row of logits that the output measures are made of.

    Args:
        logits: [n, V] floating torch tensor (any device), ndarray, or anything with a two-dimensional `shape`
            that is sliced by rows (an HDF5 dataset). -inf means p = 0.
        top_k: sizes k of the top-k entropies, each from 1 to V. Default: those of 5, 10, 25, 50 and 100 that
            do not exceed V.
        top_p: masses p of the nuclei, 0 < p < 1.

    Returns:
        float64 arrays [n] under the keys

        - `log_sum_exp`: ln sum exp z (nats);
        - `top_1_probability`: max p, in (0, 1];
        - `total_entropy`: -sum p ln p, in [0, ln V] nats;
        - `varentropy`: variance of -ln p under p, centred before squaring, >= 0 (nats squared);
        - `top_k_entropy_{k}`: entropy of the k largest p divided by their sum, in [0, ln k] nats;
        - `top_p_size_{p}_{nucleus}`: tokens in the nucleus, nucleus being `inclusive` or `exclusive`;
        - `top_p_entropy_{p}_{nucleus}`: entropy of the renormalised nucleus, in [0, ln size] nats; NaN where
          an exclusive nucleus is empty (size 0).

    Memory beyond the input does not grow with n. A row gives the same numbers alone as in a batch.

    Raises:
        ValueError: a shape other than [n, V] with V >= 1; logits that are not floating; a k or p out of
            range; a row that holds NaN or +inf, or nothing but -inf (the row is named).
    """
    n, width = _shape(logits, "logit_statistics")
    top_k = [k for k in TOP_K if k <= width] if top_k is None else top_k
    for k in top_k:
        if not (isinstance(k, int | np.integer) and 1 <= k <= width):
            raise ValueError(
                f"The top_k parameter of logit_statistics must hold integers from 1 to the vocabulary size, "
                f"{width}, since a top-k entropy is read against ln k. Got {k!r} instead; pass smaller ones."
            )
    for p in top_p:
        if not 0 < p < 1:
            raise ValueError(
                f"The top_p parameter of logit_statistics must hold masses between 0 and 1, both excluded. "
                f"Got {p!r} instead."
            )
    names = ["log_sum_exp", "top_1_probability", "total_entropy", "varentropy"]
    names += [f"top_k_entropy_{k}" for k in top_k]
    names += [f"top_p_{kind}_{p:g}_{nucleus}" for p in top_p for nucleus in NUCLEI for kind in ("size", "entropy")]
    result = {name: np.empty(n) for name in names}
    for start, block in _blocks(logits, "logit_statistics"):
        rows = slice(start, start + len(block))
        maximum, total, mean, varentropy = _moments(block)
        _refuse_bad_rows(maximum, start, "logit_statistics")
        result["log_sum_exp"][rows] = maximum + np.log(total)
        result["top_1_probability"][rows] = 1 / total
        result["total_entropy"][rows] = _bounded(np.log(total) - mean, width)
        result["varentropy"][rows] = varentropy
        head = _largest(block, min(width, max(HEAD, *top_k, 1)))
        for name, values in _head_statistics(head, block, maximum, total, top_k, top_p).items():
            result[name][rows] = values
    return result


def largest_logits(logits: Any, count: int = 1024) -> tuple[np.ndarray, np.ndarray]:
    """Select the largest logits of each row with their token ids.

    Args:
        logits: [n, V] as in `logit_statistics`; compared as float32.
        count: how many to keep, at least 1; a vocabulary smaller than that is kept whole.

    Returns:
        values: float32 [n, min(count, V)], descending.
        ids: int32 [n, min(count, V)], the token of each value; equal values in the order of their ids.

    Raises:
        ValueError: as `logit_statistics`.
    """
    n, width = _shape(logits, "largest_logits")
    if not (isinstance(count, int | np.integer) and count >= 1):
        raise ValueError(
            f"The count parameter of largest_logits must be an integer of at least 1. Got {count!r} instead."
        )
    kept = min(int(count), width)
    values, ids = np.empty((n, kept), np.float32), np.empty((n, kept), np.int32)
    for start, block in _blocks(logits, "largest_logits"):
        rows = slice(start, start + len(block))
        if isinstance(block, torch.Tensor):
            ordered, order = torch.sort(block.float(), dim=1, descending=True, stable=True)
            values[rows], ids[rows] = ordered[:, :kept].cpu().numpy(), order[:, :kept].cpu().numpy()
        else:
            for row, z in enumerate(block.astype(np.float32, copy=False), start=start):
                ids[row] = _descending_ids(z, kept)
                values[row] = z[ids[row]]
        # Sorting puts NaN first, so the first value tells whether the row has one.
        _refuse_bad_rows(values[rows, 0], start, "largest_logits")
    return values, ids


def _descending_ids(z: np.ndarray, kept: int) -> np.ndarray:
    """Ids of the `kept` largest values of one row, ties by the lower id, NaN first."""
    if np.isnan(z).any():
        return np.argsort(~np.isnan(z), kind="stable")[:kept]
    threshold = np.partition(z, len(z) - kept)[len(z) - kept]
    above = np.flatnonzero(z > threshold)
    chosen = np.concatenate([above, np.flatnonzero(z == threshold)[: kept - len(above)]])
    return chosen[np.argsort(-z[chosen], kind="stable")]


def _shape(logits: Any, caller: str) -> tuple[int, int]:
    shape = tuple(getattr(logits, "shape", ()))
    if len(shape) != 2 or shape[1] < 1:
        raise ValueError(
            f"The logits parameter of {caller} must be an array or tensor of shape [rows, vocabulary] with "
            f"at least one token. Got {type(logits).__name__} of shape {shape} instead."
        )
    return shape[0], shape[1]


def _blocks(logits: Any, caller: str) -> Iterator[tuple[int, Any]]:
    """Yield (first row, rows): an ndarray of float32 or float64, or a tensor if the logits live on a GPU."""
    step = max(1, _BLOCK_ELEMENTS // logits.shape[1])
    for start in range(0, logits.shape[0], step):
        block = logits[start : start + step]
        if isinstance(block, torch.Tensor):
            block = block.detach()
            floating = block.is_floating_point()
            if floating and block.dtype not in (torch.float32, torch.float64):
                block = block.float()
            if block.device.type == "cpu":
                block = block.numpy()
        else:
            block = np.asarray(block)
            floating = np.issubdtype(block.dtype, np.floating)
            if floating and block.dtype not in (np.float32, np.float64):
                block = block.astype(np.float64 if block.dtype.itemsize > 4 else np.float32)
        if not floating:
            raise ValueError(
                f"The logits parameter of {caller} must hold floating-point numbers. Got dtype {block.dtype} instead."
            )
        yield start, block


def _refuse_bad_rows(maximum: np.ndarray, start: int, caller: str) -> None:
    """Refuse rows by their maximum, which is NaN, +inf or -inf exactly for the rows that have no softmax."""
    bad = np.flatnonzero(~np.isfinite(maximum))
    if len(bad):
        value = maximum[bad[0]]
        what = "NaN" if np.isnan(value) else "+inf" if value > 0 else "only -inf"
        raise ValueError(
            f"The logits parameter of {caller} must hold a finite number, no NaN and no +inf in every row. "
            f"Got {what} in row {start + bad[0]} instead; was the model run in a dtype that overflows?"
        )


def _moments(block: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Row maximum, sum of w, mean of x under p, variance of x under p (rows without a softmax give NaN)."""
    return _device_moments(block) if isinstance(block, torch.Tensor) else _host_moments(block)


def _device_moments(block: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    peak = block.amax(dim=1).double()
    x = (block.double() - peak[:, None]).clamp_(min=_LOWEST)
    w = x.exp()
    total = w.sum(dim=1)
    mean = (w * x).sum(dim=1) / total
    x -= mean[:, None]
    variance = w.mul_(x.square_()).sum(dim=1) / total
    return peak.cpu().numpy(), total.cpu().numpy(), mean.cpu().numpy(), variance.cpu().numpy()


def _host_moments(block: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    n, width = block.shape
    maximum = block.max(axis=1).astype(np.float64)
    total, mean, variance = np.full(n, np.nan), np.full(n, np.nan), np.full(n, np.nan)
    step = max(1, _CACHE_ELEMENTS // width)
    work = np.empty((3, step, width))
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        peak = maximum[rows, None]
        if not np.isfinite(peak).all():
            continue
        x, w, wx = work[:, : len(peak)]
        np.subtract(block[rows], peak, out=x, dtype=np.float64)
        np.maximum(x, _LOWEST, out=x)
        np.exp(x, out=w)
        total[rows] = w.sum(axis=1)
        # Sums of a product array are pairwise and per row: the same bits whatever the batch.
        mean[rows] = np.multiply(w, x, out=wx).sum(axis=1) / total[rows]
        x -= mean[rows, None]
        w *= x
        w *= x
        variance[rows] = w.sum(axis=1) / total[rows]
    return maximum, total, mean, variance


def _largest(block: Any, count: int) -> np.ndarray:
    """The `count` largest values of each row, descending, on the host."""
    if isinstance(block, torch.Tensor):
        if count == block.shape[1]:
            return block.sort(dim=1, descending=True).values.cpu().numpy()
        return block.topk(count, dim=1).values.cpu().numpy()
    n, width = block.shape
    selected = np.empty((n, count), block.dtype)
    work = np.empty(width, block.dtype)
    for row in range(n):
        work[:] = block[row]
        if count < width:
            work.partition(width - count)
        selected[row] = work[width - count :]
    selected.sort(axis=1)
    return selected[:, ::-1]


def _head_statistics(
    head: np.ndarray,
    block: Any,
    maximum: np.ndarray,
    total: np.ndarray,
    top_k: Sequence[int],
    top_p: Sequence[float],
) -> dict[str, np.ndarray]:
    """Top-k and nucleus statistics of a block from its largest logits `head` [n, h]; wide rows are sorted."""
    result = {}
    x, w = _relative(head, maximum)
    cumulated_w, cumulated_wx = w.cumsum(axis=1), (w * x).cumsum(axis=1)
    for k in top_k:
        result[f"top_k_entropy_{k}"] = _prefix_entropy(cumulated_w[:, k - 1], cumulated_wx[:, k - 1], k)
    if not top_p:
        return result
    cumulated_p = (w / total[:, None]).cumsum(axis=1)
    decided = (cumulated_p[:, -1] > max(top_p)) | (head.shape[1] == block.shape[1])
    wide = {}
    if not decided.all():
        work = np.empty((4, block.shape[1]))
        for row in np.flatnonzero(~decided):
            ordered = _largest(block[row : row + 1], block.shape[1])[0]
            wide[row] = _wide_row(ordered, maximum[row], total[row], top_p, work)
    for p, nucleus in product(top_p, NUCLEI):
        if nucleus == "inclusive":
            size = 1 + (cumulated_p[:, :-1] < p - INCLUSIVE_TOLERANCE).sum(axis=1)
        else:
            size = (cumulated_p <= p).sum(axis=1)
        kept = np.maximum(size, 1)
        every = np.arange(len(size))
        entropy = _prefix_entropy(cumulated_w[every, kept - 1], cumulated_wx[every, kept - 1], kept)
        for row, found in wide.items():
            size[row], entropy[row] = found[p, nucleus]
        result[f"top_p_size_{p:g}_{nucleus}"] = size
        result[f"top_p_entropy_{p:g}_{nucleus}"] = np.where(size > 0, entropy, np.nan)
    return result


def _wide_row(
    ordered: np.ndarray, maximum: float, total: float, top_p: Sequence[float], work: np.ndarray
) -> dict[tuple[float, str], tuple[int, float]]:
    """Nucleus sizes and entropies of one row that is too flat for its head, from all its logits, descending.

    `work` [4, V] is overwritten: fresh arrays of this size would cost more in page faults than the arithmetic.
    """
    x, w, p_each, cumulated_p = work
    np.subtract(ordered, maximum, out=x, dtype=np.float64)
    np.maximum(x, _LOWEST, out=x)
    np.exp(x, out=w)
    np.divide(w, total, out=p_each).cumsum(out=cumulated_p)
    sizes = {}
    for p in top_p:
        sizes[p, "inclusive"] = 1 + int(np.searchsorted(cumulated_p[:-1], p - INCLUSIVE_TOLERANCE, side="left"))
        sizes[p, "exclusive"] = int(np.searchsorted(cumulated_p, p, side="right"))
    # One pass for all prefixes: sums between neighbouring ends, then their cumulated sum.
    ends = np.unique([max(size, 1) for size in sizes.values()])
    starts = np.concatenate([[0], ends[:-1]])
    w, x = w[: ends[-1]], x[: ends[-1]]
    prefix_w = np.add.reduceat(w, starts).cumsum()
    prefix_wx = np.add.reduceat(np.multiply(w, x, out=x), starts).cumsum()
    entropy = _prefix_entropy(prefix_w, prefix_wx, ends)
    return {key: (size, float(entropy[np.searchsorted(ends, max(size, 1))])) for key, size in sizes.items()}


def _relative(head: np.ndarray, maximum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = np.maximum(head.astype(np.float64) - maximum[:, None], _LOWEST)
    return x, np.exp(x)


def _prefix_entropy(w: np.ndarray, wx: np.ndarray, size: np.ndarray | int) -> np.ndarray:
    """Entropy of a renormalised set of `size` tokens from its sums of w and w x."""
    return _bounded(np.log(w) - wx / w, size)


def _bounded(entropy: np.ndarray, size: np.ndarray | int) -> np.ndarray:
    """Keep the last bit of rounding from lifting an entropy over its largest possible value, ln size."""
    return np.minimum(entropy, np.log(size))
