"""A population of activations and targets whose linear signal is known, and what a fitted probe is worth in it.

1. Noise: standard normal in every layer, neighbouring layers correlated; a share of it, and of the target, belongs to
   the subject of a row, drawn anew for each subject.
2. Signal: along one direction of that noise the target is written over, so that the best linear reading of a layer
   correlates with it as `strength` says, in a bell around the best layer. Along another direction, in all layers alike,
   stands how long the item is, along a third its number of options; the target may depend on both.
3. The noise is given a power-law spectrum and features of uneven scale and offset, as residual streams have. The maps
   are invertible and linear, and change no best reading.

All second moments are known, and with them the worth of probes on new rows of new subjects: `Worth`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from doubtlens.probes.folds import Folds
from doubtlens.probes.linear import LogisticProbe
from doubtlens.probes.ridge_path import RidgePath, Standardization
from doubtlens.probes.scores import auroc
from doubtlens.probes.sweep import LayerSweep

Floats = NDArray[np.float64]

WORDS = np.arange(3, 31)
OPTIONS = np.arange(2, 8)
# Midpoints of the quantiles over which the AUROC is integrated on both sides of the cut.
POINTS = (np.arange(40) + 0.5) / 40


@dataclass(frozen=True, eq=False)
class Study:
    """n items as a study would see them.

    Attributes:
        activations: [L, n, d].
        latent: [n], the target as a number with mean 0 and variance 1.
        subject: [n], or None.
        words, options: [n], length and number of options of the items.
    """

    activations: Floats
    latent: Floats
    subject: NDArray[np.intp] | None
    words: NDArray[np.intp]
    options: NDArray[np.intp]


@dataclass(frozen=True)
class Population:
    """Where studies are drawn from.

    Attributes:
        n_layers, n_features: L and d.
        strength: multiple correlation of the best layer with the target, where that does not depend on the items' size.
        best, width: the layer with the strongest signal, and the standard deviation of the bell in layers.
        persistence: correlation of a layer's noise with that of the layer before.
        decay: exponent of the power law of the noise's variances.
        subjects: share of the variance, of activations and target, that lies between subjects.
        confound: multiple correlation of the target with length and number of options.
        sized: correlation of the activations with length and with number of options, along a direction for each.
    """

    n_layers: int = 5
    n_features: int = 24
    strength: float = 0.5
    best: int = 2
    width: float = 1.2
    persistence: float = 0.8
    decay: float = 1.0
    subjects: float = 0.0
    confound: float = 0.0
    sized: float = 0.0

    @cached_property
    def strengths(self) -> Floats:
        """Multiple correlation of each layer with what of the target is no matter of size, [L]."""
        return self.strength * np.exp(-0.5 * ((np.arange(self.n_layers) - self.best) / self.width) ** 2)

    @cached_property
    def axes(self) -> Floats:
        """Orthonormal directions in the noise of signal, length and number of options, [3, d]."""
        rng = np.random.default_rng(1)
        among = max(3, self.n_features // 4)  # the stronger components: a signal in the weakest would not be found
        axes = np.zeros((3, self.n_features))
        axes[:, :among] = np.linalg.qr(rng.standard_normal((among, 3)))[0].T
        return axes

    @cached_property
    def mixing(self) -> Floats:
        """From noise to features, [d, d]: activations are noise @ mixing + offset."""
        rng = np.random.default_rng(2)
        rotation = np.linalg.qr(rng.standard_normal((self.n_features, self.n_features)))[0]
        spectrum = np.arange(1, self.n_features + 1) ** (-self.decay / 2)
        return spectrum[:, None] * rotation * 10 ** rng.uniform(-1, 1, self.n_features)

    @cached_property
    def offset(self) -> Floats:
        """Means of the features, [d]."""
        return 5 * np.random.default_rng(3).standard_normal(self.n_features) * np.linalg.norm(self.mixing, axis=0)

    def draw(self, rng: np.random.Generator, n: int, subjects: int | None = None, even: bool = True) -> Study:
        """Draw n items, of so many subjects, of even size or not; None for items on their own."""
        subject = np.arange(n) % (subjects or n)
        if subjects is not None and not even:
            subject = np.unique(
                np.r_[subject[:subjects], rng.integers(0, subjects, n - subjects)], return_inverse=True
            )[1]
        noise = self._clustered(self._noise(rng, n), self._noise(rng, subject.max() + 1), subject)
        own = self._clustered(rng.standard_normal(n), rng.standard_normal(subject.max() + 1), subject)
        words, options = rng.choice(WORDS, n), rng.choice(OPTIONS, n)
        size = np.stack([(words - WORDS.mean()) / WORDS.std(), (options - OPTIONS.mean()) / OPTIONS.std()])
        for layer in range(self.n_layers):
            written = np.r_[own[None], size], np.array([self.strengths[layer], self.sized, self.sized])
            for axis, values, strength in zip(self.axes, *written, strict=True):
                before = noise[layer] @ axis
                noise[layer] += np.outer(strength * values + (np.sqrt(1 - strength**2) - 1) * before, axis)
        latent = np.sqrt(1 - self.confound**2) * own + self.confound * np.sqrt(0.5) * size.sum(axis=0)
        return Study(noise @ self.mixing + self.offset, latent, None if subjects is None else subject, words, options)

    def covariance(self, layer: int) -> Floats:
        """Covariance of a layer's features with the latent target, [d]."""
        signal = np.sqrt(1 - self.confound**2) * self.strengths[layer]
        size = self.confound * np.sqrt(0.5) * self.sized
        return np.array([signal, size, size]) @ self.axes @ self.mixing

    def _noise(self, rng: np.random.Generator, n: int) -> Floats:
        noise = rng.standard_normal((self.n_layers, n, self.n_features))
        for layer in range(1, self.n_layers):
            noise[layer] *= np.sqrt(1 - self.persistence**2)
            noise[layer] += self.persistence * noise[layer - 1]
        return noise

    def _clustered(self, rows: Floats, subjects: Floats, subject: NDArray[np.intp]) -> Floats:
        of_subjects = subjects[subject] if rows.ndim == 1 else subjects[:, subject]
        return np.sqrt(1 - self.subjects) * rows + np.sqrt(self.subjects) * of_subjects


@dataclass(frozen=True, eq=False)
class Worth:
    """What the probes of a sweep are worth on new rows, each row read by the probe of a fold drawn by its size.

    Attributes:
        score: [L], Pearson correlation with the latent target, or AUROC of its being above the cut.
        nested: the same of the probes at the layers that were chosen inside the training folds.
        ranking: [L], what the best layer is the best by: R2, or the AUROC.
    """

    score: Floats
    nested: float
    ranking: Floats

    @classmethod
    def of(
        cls, population: Population, study: Study, swept: LayerSweep, kind: str = "ridge", cut: float | None = None
    ) -> Worth:
        """Work out the worth of the probes of a sweep; `cut`: that of a 0/1 target."""
        target = study.latent if cut is None else (study.latent > cut).astype(float)
        layers, folds = range(population.n_layers), range(len(swept.folds.test))
        probes = [
            [_probe(study.activations[layer], target, swept.folds, f, swept.penalties[layer, f], kind) for f in folds]
            for layer in layers
        ]
        share = np.array([len(test) for test in swept.folds.test]) / len(target)
        for layer in (0, int(swept.nested_layers[0])):  # they are the probes of the sweep, or nothing here is true
            test = swept.folds.test[0]
            found = probes[layer][0].read(study.activations[layer][test])
            # A logistic probe is fitted to a tolerance, from another start.
            close = 1e-3 if kind == "logistic" else 1e-8
            np.testing.assert_allclose(found, swept.deviations[layer, test], rtol=1e-6, atol=close)
        moments = np.array([[probe.moments(population, layer) for probe in probes[layer]] for layer in layers])
        chosen = np.array([moments[layer, fold] for fold, layer in enumerate(swept.nested_layers)])
        if cut is not None:
            if kind == "logistic":
                nested = [probes[layer][fold] for fold, layer in enumerate(swept.nested_layers)]
                read = partial(_drawn_auroc, share=share, cut=cut)
                score = np.array([read(*pair) for pair in zip(probes, moments, strict=True)])
                return cls(score, read(nested, chosen), score)
            score = np.array([_auroc(own, share, cut) for own in moments])
            return cls(score, _auroc(chosen, share, cut), score)
        baseline = np.array([target[swept.folds.train(fold)].mean() for fold in folds])
        spread = np.array([[probe.spread for probe in own] for own in probes])
        offset, covariance, variance = np.moveaxis(moments, -1, 0) * np.stack([spread, spread, spread**2])
        error = 1 + variance - 2 * covariance + (offset + baseline) ** 2
        ranking = 1 - error @ share / ((1 + baseline**2) @ share)
        return cls(np.array([_pearson(own, share) for own in moments]), _pearson(chosen, share), ranking)


@dataclass(frozen=True, eq=False)
class _Probe:
    """A probe of one fold: how it reads deviations, in units of its spread over its training rows.

    A logistic probe reads probabilities, with `intercept` among its log-odds and `base` as its base rate; the others
    have None.
    """

    weights: Floats
    centre: Floats
    spread: float
    intercept: float | None = None
    base: float = 0.0

    def read(self, rows: Floats) -> Floats:
        return self.scaled((rows - self.centre) @ self.weights)

    def scaled(self, linear: Floats) -> Floats:
        """Deviation in units of the spread from the linear part."""
        if self.intercept is not None:
            linear = special.expit(linear + self.intercept) - self.base
        return linear / self.spread

    def moments(self, population: Population, layer: int) -> Floats:
        """Mean of the readings of new rows, their covariance with the latent target, and their variance."""
        weights = self.weights if self.intercept is not None else self.weights / self.spread
        mixed = population.mixing @ weights
        return np.array(
            [weights @ (population.offset - self.centre), weights @ population.covariance(layer), mixed @ mixed]
        )


def _probe(rows: Floats, target: Floats, folds: Folds, fold: int, penalty: float, kind: str) -> _Probe:
    """Fit the probe of a fold once more, for its weights."""
    train = folds.train(fold)
    scaler = Standardization.of(rows[train])
    standard, y = scaler.apply(rows[train]), target[train]
    if kind == "logistic":
        model = LogisticProbe(C=penalty).fit(rows[train], y)
        intercept = float(model.intercept_ + scaler.mean @ model.coef_)
        spread = model.predict_proba(rows[train])[:, 1].std()
        return _Probe(model.coef_, scaler.mean, float(spread), intercept, float(y.mean()))
    weights = standard.T @ (y - y.mean()) if kind == "mass_mean" else RidgePath.of(standard).weights(y, penalty)
    return _Probe(weights * scaler.inverse_scale, scaler.mean, float((standard @ weights).std()))


def _pearson(moments: Floats, share: Floats) -> float:
    """Correlation with the latent target over folds, from moments [F, 3]."""
    offset, covariance, variance = moments.T
    mean = share @ offset
    return float(share @ covariance / np.sqrt(share @ variance + share @ (offset - mean) ** 2))


def _auroc(moments: Floats, share: Floats, cut: float) -> float:
    """Chance that a reading of a row above the cut exceeds one of a row below; both may be of different folds."""
    offset, covariance, variance = moments.T
    below = stats.norm.cdf(cut)
    high, low = stats.norm.ppf(below + (1 - below) * POINTS), stats.norm.ppf(below * POINTS)
    left = variance - covariance**2  # given the latent target
    gap = offset[:, None, None, None] + covariance[:, None, None, None] * high[:, None]
    gap = gap - offset[:, None, None] - covariance[:, None, None] * low
    sd = np.sqrt(left[:, None] + left)[:, :, None, None]
    return float(share @ stats.norm.cdf(gap / sd).mean(axis=(2, 3)) @ share)


def _drawn_auroc(probes: Sequence[_Probe], moments: Floats, share: Floats, cut: float) -> float:
    """The same for probes that are not linear, from 40,000 new rows, each read by one of them."""
    rng = np.random.default_rng(4)
    latent, own = rng.standard_normal((2, 40_000))
    fold = rng.choice(len(share), latent.size, p=share)
    offset, covariance, variance = moments[fold].T
    linear = offset + covariance * latent + np.sqrt(variance - covariance**2) * own
    readings = np.empty_like(linear)
    for number, probe in enumerate(probes):
        readings[fold == number] = probe.scaled(linear[fold == number])
    return float(auroc((latent > cut).astype(float)[:, None], readings[:, None])[0])
