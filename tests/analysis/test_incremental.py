"""Incremental R2: by hand, against a loop, and over simulated studies in which one side knows more, or nothing more."""

import numpy as np
import pandas as pd
import pytest

from doubtlens.analysis import incremental_r2
from doubtlens.analysis.resamples import Resamples

TARGET = "human_entropy_normalized"
NAMES = {"measures": f"measures_{TARGET}", "probe": f"probe_{TARGET}", "both": f"probe_and_measures_{TARGET}"}


def hand():
    """Four items in two folds; the training means are 3 and 1, the predictions of "both" perfect."""
    y, baseline = np.array([0.0, 2.0, 2.0, 4.0]), np.array([3.0, 3.0, 1.0, 1.0])
    raw = {"measures": np.array([1.0, 2.0, 2.0, 3.0]), "probe": np.array([3.0, 3.0, 1.0, 1.0]), "both": y}
    table = pd.DataFrame({"item": list("abcd"), TARGET: y, f"baseline_{TARGET}": baseline})
    return table.assign(**{NAMES[name]: values for name, values in raw.items()})


def added(table, seed=0, **settings):
    return incremental_r2(table, rng=np.random.default_rng(seed), **({"n_bootstrap": 200} | settings))


def test_a_case_by_hand():
    # Squared distances from the training means: 9 + 1 + 1 + 9 = 20; errors of the measures 1 + 0 + 0 + 1 = 2.
    row = added(hand()).iloc[0]
    assert row[["r2_measures", "r2_probe", "r2_both"]].tolist() == pytest.approx([0.9, 0.0, 1.0])
    assert row[["probe_over_measures", "measures_over_probe"]].tolist() == pytest.approx([0.1, 1.0])
    assert row["yardstick"] == f"baseline_{TARGET}"


def test_predictions_as_they_were_made_come_before_comparable_ones():
    raw = {f"{kind}_raw_{TARGET}": hand()[f"{kind}_{TARGET}"] for kind in ("measures", "probe", "probe_and_measures")}
    spoilt = hand().assign(**dict.fromkeys(NAMES.values(), 9.0), **raw)
    pd.testing.assert_frame_equal(added(spoilt), added(hand()))


def test_without_training_means_the_mean_of_the_items_is_the_yardstick():
    table = hand().drop(columns=f"baseline_{TARGET}")
    row = added(table).iloc[0]
    y = table[TARGET]
    expected = [1 - ((y - table[name]) ** 2).sum() / ((y - y.mean()) ** 2).sum() for name in NAMES.values()]
    assert row[["r2_measures", "r2_probe", "r2_both"]].tolist() == pytest.approx(expected)
    assert row["yardstick"] == "the mean of the target over these items, since the table has no training means"
    named = table.rename(columns=dict(zip(NAMES.values(), "abc", strict=True)))
    again = added(named, measures="a", probe="b", both="c").iloc[0]
    pd.testing.assert_series_equal(again, row)


def test_of_probabilities_it_is_the_brier_skill_score():
    rng = np.random.default_rng(1)
    y, baseline = rng.integers(0, 2, 60).astype(float), np.repeat([0.3, 0.5, 0.6], 20)
    columns = {name.replace(TARGET, "correct"): rng.uniform(0.1, 0.9, 60) for name in NAMES.values()}
    table = pd.DataFrame({"item": range(60), "correct": y, "baseline_correct": baseline, **columns})
    row = added(table, target="correct").iloc[0]
    for source, values in zip(NAMES, columns.values(), strict=True):
        brier_skill = 1 - np.mean((y - values) ** 2) / np.mean((y - baseline) ** 2)
        assert row[f"r2_{source}"] == pytest.approx(brier_skill)


def test_intervals_are_those_of_a_loop_over_the_same_resamples():
    rng = np.random.default_rng(2)
    y = rng.standard_normal(40)
    table = pd.DataFrame({"item": [f"q{row:02d}" for row in range(40)], TARGET: y, f"baseline_{TARGET}": 0.1})
    table = table.assign(**{name: y + rng.standard_normal(40) for name in NAMES.values()})
    row = added(table, n_bootstrap=60).iloc[0]
    seed = int(np.random.default_rng(0).integers(2**63))
    draws = []
    for counts in np.concatenate(list(Resamples(40, 60, seed).blocks()), axis=1).T:
        drawn = table.loc[table.index.repeat(counts.astype(int))]
        spread = ((drawn[TARGET] - 0.1) ** 2).sum()
        r2 = {source: 1 - ((drawn[TARGET] - drawn[name]) ** 2).sum() / spread for source, name in NAMES.items()}
        draws.append([*r2.values(), r2["both"] - r2["measures"], r2["both"] - r2["probe"]])
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    figures = ["r2_measures", "r2_probe", "r2_both", "probe_over_measures", "measures_over_probe"]
    assert row[[f"{name}_ci_low" for name in figures]].tolist() == pytest.approx(low)
    assert row[[f"{name}_ci_high" for name in figures]].tolist() == pytest.approx(high)
    assert row["probe_over_measures_se"] == pytest.approx(np.std(draws, axis=0, ddof=1)[3])
    assert row["note"] == "measures and probe alone predict worse than the mean"


def study(seed, beyond, n=240):
    """Out-of-fold predictions by least squares where the probe sees the measure's signal, and `beyond` besides."""
    rng = np.random.default_rng(seed)
    behaviour, own = rng.standard_normal((2, n))
    y = 0.6 * behaviour + beyond * own + 0.7 * rng.standard_normal(n)
    measure, probe = behaviour + 0.3 * rng.standard_normal(n), behaviour + beyond * own + 0.3 * rng.standard_normal(n)
    if not beyond:
        probe = measure  # a probe that reads nothing but what the output says
    fold = np.arange(n) % 10
    columns = {"measures": [measure], "probe": [probe], "both": [measure, probe + 0.01 * rng.standard_normal(n)]}
    table = pd.DataFrame({"item": range(n), TARGET: y, f"baseline_{TARGET}": 0.0})
    for source, features in columns.items():
        design = np.column_stack([np.ones(n), *features])
        predicted = np.empty(n)
        for held_out in range(10):
            train, test = fold != held_out, fold == held_out
            weights = np.linalg.lstsq(design[train], y[train], rcond=None)[0]
            table.loc[test, f"baseline_{TARGET}"] = y[train].mean()
            predicted[test] = design[test] @ weights
        table[NAMES[source]] = predicted
    return table


def test_a_signal_beyond_the_measures_is_found_and_none_where_there_is_none():
    more = pd.concat([added(study(seed, 0.5)) for seed in range(20)])
    assert (more["probe_over_measures_ci_low"] > 0).mean() > 0.9
    nothing = pd.concat([added(study(seed, 0.0)) for seed in range(40)])
    # A worthless addition costs a little: never more than a chance finding to its favour.
    assert (nothing["probe_over_measures_ci_low"] > 0).mean() <= 0.05
    assert (nothing["measures_over_probe_ci_low"] > 0).mean() <= 0.05
    assert -0.01 < nothing["probe_over_measures"].mean() <= 0.001


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probe": "probed"}, "probe parameter of incremental_r2 must name columns of the table. Got 'probed'"),
        ({"both": "all"}, "both parameter of incremental_r2 must name columns of the table. Got 'all'"),
        ({"baseline": "b"}, "baseline parameter of incremental_r2 must name columns of the table. Got 'b'"),
        ({"interval": "exact"}, "interval parameter of incremental_r2 must be one of 'percentile', 'bca'"),
    ],
)
def test_bad_arguments(change, message):
    with pytest.raises(ValueError, match=message):
        added(hand(), **change)


def test_a_constant_target_has_no_r2():
    row = added(hand().assign(**{TARGET: 0.5})).iloc[0]
    assert np.isnan([row["r2_both"], row["probe_over_measures"], row["probe_over_measures_p"]]).all()
    assert row["reason"] == f"{TARGET} is constant"
