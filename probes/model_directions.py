"""The cosine between a target's directions in the activations of two models, and its null.

As in `directions`, with two models in place of two targets:

1. The direction of the base model is fitted to one half of the rows, that of the instruct model to the other half;
   the cosine is averaged over both assignments and over random halvings. Fitted to the same rows, both would share the
   noise of the same target, and two models that know nothing of it would still seem to agree.
2. The metric is the pooled covariance of the activations, the mean of the two models' covariances, each about its own
   mean: the cosine is the correlation of the two directions' readings when both read the activations of both models.
   `plain` is the cosine in raw units of the residual stream.
3. The cosine of one model's direction from both halves is its reliability, the yardstick: were the directions truly the
   same, the cosine between the models would be the root of the product of the reliabilities.
4. Nulls: the target of one model permuted, of the other, or of both alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .directions import NULLS, DirectionCosines, TargetPair, ridge_directions
from .ridge_path import Standardization

Array = np.ndarray

METRICS = ("covariance", "plain")


def model_cosines(
    base: Array, instruct: Array, pair: TargetPair, penalties: Sequence[float], *, device: str = "cpu"
) -> dict[str, DirectionCosines]:
    """Cosines between a target's directions in two models' activations of the same rows, by metric.

    Args:
        base, instruct: activations [n, d] of one layer.
        pair: the target as each model has it, with its permutations and halves.
        penalties: alphas to choose from inside each half.
        device: where torch fits.
    """
    sides = (base, pair.first), (instruct, pair.second)
    # Products of readings are those of the pooled covariance, up to a factor.
    readings = np.vstack([side - side.mean(axis=0) for side, _ in sides])
    m = pair.first.shape[1]
    null = {metric: np.zeros((len(NULLS), m)) for metric in METRICS}
    reliability = {metric: np.zeros((2, m)) for metric in METRICS}
    for halves in pair.halves:
        (base_a, base_b), (instruct_a, instruct_b) = (
            [
                ridge_directions(
                    side[half],
                    target[half],
                    penalties=penalties,
                    codes=None if pair.codes is None else pair.codes[half],
                    device=device,
                )
                for half in halves
            ]
            for side, target in sides
        )
        for metric in METRICS:
            a, b, u, v = (
                _unit(readings @ weights if metric == "covariance" else weights)
                for weights in (base_a, base_b, instruct_a, instruct_b)
            )
            null[metric] += np.stack(
                [
                    a[:, 0] @ v + b[:, 0] @ u,
                    v[:, 0] @ a + u[:, 0] @ b,
                    (a * v).sum(axis=0) + (b * u).sum(axis=0),
                ]
            ) / (2 * len(pair.halves))
            reliability[metric] += np.stack([(a * b).sum(axis=0), (u * v).sum(axis=0)]) / len(pair.halves)
    blank = 0.0 if all(Standardization.of(side).inverse_scale.any() for side, _ in sides) else np.nan
    return {
        metric: DirectionCosines(
            cosine=float(null[metric][2, 0] + blank),
            null=null[metric][:, 1:] + blank,
            in_sample=float("nan"),
            in_sample_null=np.full(m - 1, np.nan),
            reliability=reliability[metric][:, 0] + blank,
            reliability_null=reliability[metric][:, 1:] + blank,
        )
        for metric in METRICS
    }


def _unit(columns: Array) -> Array:
    length = np.sqrt(np.square(columns).sum(axis=0))
    return np.divide(columns, length, out=np.zeros_like(columns), where=length > 0)
