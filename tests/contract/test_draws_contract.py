"""The contract of every statistic of counts: column j is the plain function of the items repeated counts[:, j] times.

Each class with `names` and a call on counts stands in the table below beside the plain function of the array layer, or
a loop, that it must equal; the tests hold for all of them.
"""

import ast
import functools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from doubtlens.analysis.behaviour import _Turned
from doubtlens.analysis.calibration_error import ece, mce
from doubtlens.analysis.calibration_error_draws import MassError, RankError, SweepError, WidthError
from doubtlens.analysis.ceiling import Ceiling
from doubtlens.analysis.correlation import METHODS, correlation, partial_correlation
from doubtlens.analysis.correlation_draws import Correlations
from doubtlens.analysis.discrimination import Orders, auroc
from doubtlens.analysis.human_calibration import Means
from doubtlens.analysis.incremental import ExplainedVariance
from doubtlens.analysis.item_columns import Items, Reading
from doubtlens.analysis.item_statistics import FIGURES, Cell, build
from doubtlens.analysis.jsd_shift_draws import JsdShift
from doubtlens.analysis.proper_scores import NLL, Brier, brier, nll
from doubtlens.analysis.resamples import Resamples, observed
from doubtlens.analysis.selective import Selective, auarc, auprc, aurc, prr
from doubtlens.analysis.smooth_calibration import SmoothError, smece
from doubtlens.analysis.uncertainty_agreement import OnItems

ANALYSIS = Path(__file__).parents[2] / "analysis"
SIGNS = (+1, -1)


@dataclass(frozen=True)
class Counted:
    """A statistic of counts, made of items, and what it must equal.

    Attributes:
        make: from items to the statistic.
        plain: from items to its figures, in the order of its names; NaN where they are undefined.
        fewest: items that a draw must hold for the two to be defined alike.
    """

    make: Callable
    plain: Callable
    fewest: int = 1
    tolerance: float = 1e-9


def _correlations(method, given=False):
    def make(items):
        held = list(items.controls.T) if given else []
        return Correlations(items.measures, items.target, held, method=method)

    def plain(items):
        found = [correlation(x, items.target, method=method).value for x in items.measures.T]
        if given:
            found += [
                partial_correlation(x, items.target, items.controls, method=method).value for x in items.measures.T
            ]
        return found

    # Without a degree of freedom the plain function gives no partial correlation; in the draws it is 1 or -1.
    return Counted(make, plain, fewest=5 if given else 3, tolerance=1e-8)


def _orders(items):
    pairs = list(zip(items.measures.T, SIGNS, strict=True))
    ranks = [correlation(x, items.correct, method="spearman").value for x, _ in pairs]
    return [*ranks, *(auroc(x, items.correct, direction=sign) for x, sign in pairs)]


def _errors(function, scheme, figures=("ece",), **fixed):
    plain = {"ece": ece, "mce": mce}
    return Counted(
        lambda items: function(items.confidence, items.correct, **fixed),
        lambda items: [plain[name](items.confidence, items.correct, scheme=scheme, **fixed) for name in figures],
    )


def _shift(items):
    """Split at the mean, items within rounding of it by their own coin, and take scipy's distance of either side."""
    distance = items.uncertainty - items.uncertainty.mean()
    at = np.abs(distance) <= 1e-12
    high = np.where(at, items.coin, distance > 0).astype(bool)
    if at.all() or high.all() or not high.any():
        return [np.nan]
    sides = [
        [np.bincount(labels[side].astype(int), minlength=9) for labels in (items.choice, items.answer)]
        for side in (high, ~high)
    ]
    # Of equal histograms scipy's divergence may round to below 0.
    distances = [0.0 if (a == b).all() else jensenshannon(a / a.sum(), b / b.sum()) for a, b in sides]
    return [distances[0] - distances[1]]


def _coins(items):
    """A generator whose coins are those of the items."""
    return SimpleNamespace(random=lambda size: np.where(items.coin, 0.25, 0.75))


def _ceilings(kind, links):
    def chains(items):
        return [items.chains[:, :, link] for link in range(links)]

    def plain(items):
        steps = []
        for a, b in zip(chains(items)[:-1], chains(items)[1:], strict=True):
            seen = np.array([correlation(x, y, method=kind).value for x, y in zip(a.T, b.T, strict=True)])
            steps.append(np.nan if np.isnan(seen).sum() > len(seen) / 2 else np.nanmean(seen))
        r = np.clip([math.sin(math.pi * s / 2) if kind == "kendall" else s for s in steps], 0, 1)
        if np.isnan(r).any():
            return [np.nan]
        if links == 2:
            reliability = 2 * r[0] / (1 + r[0])
        else:
            signal = math.inf if r[0] == 1 else 2 / (1 - r[0] ** 2) - 1 / max(1 - r[1] ** 2, 1e-300)
            reliability = 1 - 1 / signal if signal > 1 else 0.0
        ceiling = math.sqrt(reliability)
        return [2 / math.pi * math.asin(ceiling) if kind == "kendall" else ceiling]

    return Counted(lambda items: Ceiling(chains(items), kind=kind), plain, fewest=3, tolerance=1e-6)


def _turned(method):
    """Two measures, the first turned round, beside a probe: their scores, and the probe's less each of theirs."""

    def make(items):
        scores = Correlations(items.measures[:, [0, 1, 1]] ** [1, 1, 2], items.target, [], method=method)
        return _Turned(scores, 0, (-1, +1, +1))

    def plain(items):
        columns = (items.measures[:, 0], items.measures[:, 1], items.measures[:, 1] ** 2)
        first, second, probe = (correlation(x, items.target, method=method).value for x in columns)
        return [-first, second, probe, probe + first, probe - second]

    return Counted(make, plain, fewest=3, tolerance=1e-8)


def _explained(items):
    errors = {
        "measures": (items.target - items.measures[:, 0]) ** 2,
        "probe": (items.target - items.measures[:, 1]) ** 2,
        "both": (items.target - items.confidence) ** 2,
    }
    return errors, (items.target - 0.25) ** 2


def _variance(items):
    errors, spread = _explained(items)
    if not spread.sum():
        return [np.nan] * 5
    measures, probe, both = (1 - errors[name].sum() / spread.sum() for name in ("measures", "probe", "both"))
    return [measures, probe, both, both - measures, both - probe]


STATISTICS = {
    **{f"Correlations, {method}": _correlations(method) for method in METHODS},
    **{f"Correlations, {method}, controls held": _correlations(method, given=True) for method in METHODS},
    "Orders": Counted(lambda items: Orders(items.measures, items.correct, directions=SIGNS), _orders, fewest=3),
    **{
        f"Selective, {sign:+d}": Counted(
            lambda items, sign=sign: Selective(items.measures[:, 0], items.correct, direction=sign),
            lambda items, sign=sign: [
                function(items.measures[:, 0], items.correct, direction=sign) for function in (auprc, aurc, auarc, prr)
            ],
        )
        for sign in SIGNS
    },
    "WidthError": _errors(WidthError, "width", ("ece", "mce"), bins=4),
    "MassError": _errors(MassError, "mass", ("ece", "mce"), bins=4),
    "SweepError": _errors(SweepError, "sweep"),
    **{
        f"RankError, {sign:+d}": Counted(
            lambda items, sign=sign: RankError(items.measures[:, 1], items.correct, direction=sign, bins=5),
            lambda items, sign=sign: [ece(items.measures[:, 1], items.correct, scheme="rank", direction=sign, bins=5)],
        )
        for sign in SIGNS
    },
    "SmoothError": Counted(
        lambda items: SmoothError(items.confidence, items.correct),
        lambda items: [smece(items.confidence, items.correct)],
    ),
    "Brier": Counted(
        lambda items: Brier(items.confidence, items.correct), lambda items: [brier(items.confidence, items.correct)]
    ),
    "NLL": Counted(
        lambda items: NLL(items.confidence, items.correct, epsilon=1e-3),
        lambda items: [nll(items.confidence, items.correct, epsilon=1e-3)],
    ),
    "JsdShift": Counted(
        lambda items: JsdShift(items.uncertainty, items.choice, items.answer, rng=_coins(items)), _shift
    ),
    **{
        f"Ceiling, {kind}, {name}": _ceilings(kind, links)
        for kind in METHODS
        for name, links in (("halves", 2), ("redrawn", 3))
    },
    "_Turned": _turned("pearson"),
    "ExplainedVariance": Counted(lambda items: ExplainedVariance(*_explained(items)), _variance),
    "Means": Counted(
        lambda items: Means({"measure": items.measures[:, 0], "confidence": items.confidence}),
        lambda items: [items.measures[:, 0].mean(), items.confidence.mean()],
    ),
    "OnItems": Counted(
        lambda items: OnItems(Brier(items.confidence[items.chosen], items.correct[items.chosen]), items.chosen),
        lambda items: (
            [brier(items.confidence[items.chosen], items.correct[items.chosen])] if items.chosen.any() else [np.nan]
        ),
    ),
}
every_statistic = pytest.mark.parametrize("statistic", STATISTICS.values(), ids=list(STATISTICS))


def make_items(n=14, kind="values", seed=0):
    """Items as arrays with the items first: of many values, with ties, of one value, or of one class."""
    rng = np.random.default_rng(seed)
    levels = {"ties": 3, "constant": 1}.get(kind, 1000)
    correct = (rng.uniform(size=n) < 0.6).astype(float)
    correct[:2] = 0, 1
    if kind in ("right", "wrong"):
        correct[:] = kind == "right"
    return assemble(rng, rng.integers(0, levels, size=(n, 5)) / max(levels - 1, 1), correct)


def assemble(rng, levels, correct):
    """Everything that the statistics of the table are made of, from levels [n, 5] in [0, 1] and marks [n]."""
    n = len(levels)
    options = 3 + np.rint(levels[:, 3]).astype(int)
    answer = rng.integers(0, 3, n)
    choice = np.where(correct == 1, answer, (answer + rng.integers(1, 3, n)) % 3)
    items = SimpleNamespace(
        # Roots, so that the mean of a draw is none of its values unless they are all equal.
        measures=np.sqrt(2 + np.rint(9 * levels[:, :2]) + levels[:, :2]),
        target=levels[:, 2],
        controls=levels[:, 3:4],
        confidence=levels[:, 4],
        # Whole numbers, so that the mean of many a draw is one of its values.
        uncertainty=np.rint(4 * levels[:, 0]),
        correct=correct,
        choice=choice,
        answer=answer,
        coin=rng.integers(0, 2, n),
        chosen=rng.integers(0, 3, n) > 0,
        chains=np.cumsum(rng.integers(0, 4, size=(n, 3, 3)), axis=2).astype(float),
    )
    items.frame = pd.DataFrame(
        {
            "item": np.arange(n),
            "n_options": options,
            "responses": [(rng.integers(0, 9, k) + np.eye(k)[0]).tolist() for k in options],
            "choice_log_probabilities": [np.log(rng.dirichlet(np.ones(k))).round(1).tolist() for k in options],
            "human_entropy_normalized": items.target,
            "choice_entropy": items.measures[:, 0],
            "choice_probability": 0.8 * (0.1 + 0.8 * items.confidence),
            "choice_mass": 0.8,
            "correct": correct,
            "choice": choice,
            "answer": answer,
            "probe_human_entropy_normalized": items.measures[:, 1],
            "probe_correct": 0.1 + 0.8 * items.confidence,
        }
    )
    return items


def take(items, rows):
    """Items by their positions, copies of an item being items of their own."""
    taken = {name: values[rows] for name, values in vars(items).items() if name != "frame"}
    frame = items.frame.iloc[rows].assign(item=np.arange(len(rows)))
    return SimpleNamespace(**taken, frame=frame.reset_index(drop=True))


def make_counts(items, seed=1):
    """Resamples of items and of clusters, items as they are, less one, in threes, of one class, and three of one."""
    n = len(items.correct)
    clusters = np.arange(n) % 4
    drawn = [block for kind in (None, clusters) for block in Resamples(n, 4, seed, kind).blocks()]
    special = np.zeros((n, 6))
    special[:, 0] = 1
    special[1:, 1] = 1
    special[: n // 2 + 1, 2] = 3
    special[:, 3], special[:, 4] = items.correct, 1 - items.correct
    special[n // 2, 5] = 7
    return np.concatenate([*drawn, special], axis=1)


def assert_columns(statistic, items, counts):
    made = statistic.make(items)
    kept = counts[:, counts.sum(axis=0) >= statistic.fewest]
    found = made(kept)
    assert found.shape == (len(made.names), kept.shape[1])
    rows = [np.repeat(np.arange(len(kept)), column) for column in kept.T.astype(int)]
    expected = np.array([statistic.plain(take(items, drawn)) for drawn in rows], dtype=float).reshape(-1, len(found)).T
    np.testing.assert_allclose(found, expected, rtol=0, atol=statistic.tolerance)
    return expected


@every_statistic
@pytest.mark.parametrize("kind", ["values", "ties", "constant", "right", "wrong"])
def test_columns_equal_the_plain_function_of_repeated_items(statistic, kind):
    items = make_items(kind=kind)
    expected = assert_columns(statistic, items, make_counts(items))
    # Or there would be nothing to compare.
    assert kind != "values" or np.isfinite(expected[:, :8]).all(axis=1).any()


def figures_of(items):
    """Every figure of `FIGURES` as `build` makes it, and its statistics; those of a measure of `choice_entropy`."""
    measures = {"run": None, "measure": "choice_entropy", "confidence": "choice_probability"}
    cells = [Cell(name, measures[figure.family]) for name, figure in FIGURES.items()]
    return cells, build(Items(items.frame, Reading()), cells)


@functools.cache
def figures_in_draws(kind):
    """By figure: its values in draws, and those of the items repeated as `build` observes them."""
    items = make_items(kind=kind)
    counts = make_counts(items)
    counts = counts[:, counts.any(axis=0)]
    cells, built = figures_of(items)
    drawn = built.by_cell([statistic(counts) for statistic in built.statistics])
    nothing = np.full(counts.shape[1], np.nan)
    repeated = [np.repeat(np.arange(len(counts)), column) for column in counts.T.astype(int)]
    plain = [figures_of(take(items, rows))[1].observed() for rows in repeated]
    return {
        cell.figure: (drawn.get(cell, nothing), np.array([found.get(cell, np.nan) for found in plain]))
        for cell in cells
    }


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("kind", ["values", "ties", "constant", "right", "wrong"])
def test_every_figure_in_draws_is_that_of_the_repeated_items(figure, kind):
    drawn, plain = figures_in_draws(kind)[figure]
    # The last draw holds one item only, of which some figures know no more than that it is one.
    np.testing.assert_allclose(drawn, plain, rtol=0, atol=1e-8)
    assert kind != "values" or np.isfinite(drawn[:9]).all()


@every_statistic
def test_counts_of_one_give_the_observed_value(statistic):
    items = make_items(kind="ties")
    made = statistic.make(items)
    seen = observed(made, len(items.correct))
    assert seen.shape == (len(made.names),)
    np.testing.assert_allclose(seen, statistic.plain(items), rtol=0, atol=statistic.tolerance)


@every_statistic
def test_blocks_change_nothing(statistic):
    items = make_items(kind="ties")
    counts = make_counts(items)
    made = statistic.make(items)
    whole = made(counts)
    parts = [made(np.ascontiguousarray(counts[:, start : start + 5])) for start in range(0, counts.shape[1], 5)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=0, atol=1e-13)
    assert made(counts[:, :0]).shape == (len(made.names), 0)


@every_statistic
def test_the_counts_are_left_as_they_were(statistic):
    items = make_items(kind="ties")
    counts = make_counts(items)
    before = counts.copy()
    statistic.make(items)(counts)
    np.testing.assert_array_equal(counts, before)


@every_statistic
def test_the_order_of_the_items_does_not_matter(statistic):
    items = make_items(kind="ties")
    counts = make_counts(items)
    order = np.random.default_rng(5).permutation(len(counts))
    shuffled = statistic.make(take(items, order))(counts[order])
    np.testing.assert_allclose(shuffled, statistic.make(items)(counts), rtol=0, atol=1e-12)


@every_statistic
def test_a_draw_without_items_is_nan(statistic):
    items = make_items()
    assert np.isnan(statistic.make(items)(np.zeros((len(items.correct), 2)))).all()


@every_statistic
def test_names_are_different_texts(statistic):
    names = statistic.make(make_items()).names
    assert len(set(names)) == len(names) > 0
    assert all(isinstance(name, str) and name for name in names)


@settings(deadline=None, max_examples=15)
@given(
    rows=st.lists(
        st.tuples(*[st.integers(0, 4)] * 5, st.booleans(), st.integers(0, 3), st.integers(0, 3)), min_size=5, max_size=9
    )
)
def test_columns_equal_the_plain_function_whatever_the_items(rows):
    levels, marks, counts = np.array([row[:5] for row in rows]), [row[5] for row in rows], [row[6:] for row in rows]
    items = assemble(np.random.default_rng(0), levels / 4, np.array(marks, dtype=float))
    for statistic in STATISTICS.values():
        assert_columns(statistic, items, np.array(counts, dtype=float))


def statistics_of_counts():
    """Classes of the analysis, as module and name, that have `names` and are called on counts."""
    for path in sorted(ANALYSIS.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.name != "Statistic":
                written = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
                if "__call__" in written and re.search(r"(self\.names|\n +names|def names)\b", ast.unparse(node)):
                    yield path.stem, node.name


def test_every_statistic_of_counts_stands_in_the_table():
    made = [type(statistic.make(make_items())) for statistic in STATISTICS.values()]
    listed = {(kind.__module__.rpartition(".")[2], kind.__name__) for kind in made}
    assert listed == set(statistics_of_counts())
    assert len(listed) >= 14
