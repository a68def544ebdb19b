"""What every listed output measure keeps: row order, batches, range, direction, refusal of NaN."""

import dataclasses
import functools
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from doubtlens.extract.statistics import NUCLEI, TOP_K, TOP_P, logit_statistics
from doubtlens.probes import MEASURES, direction, measure_table, output_measures

WIDTH = 1500
OPTIONS = 4
# How far the mass is spread moves these; they need not follow the temperature.
NOT_MONOTONE = {"varentropy", "choice_probability", "choice_mass"} | {f"top_p_entropy_{p:g}_normalized" for p in TOP_P}


def rows():
    """Random rows of every sharpness, and the adversarial ones, with the logits of four labels."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((24, WIDTH)) * np.geomspace(0.01, 60, 24)[:, None]
    logits[0] = 0
    logits[1] = np.round(logits[20])
    logits[2, :] = -30
    logits[2, 3] = 30
    logits[3] = np.where(np.arange(WIDTH) % 2, 5.0, 4.0)
    logits[4] += 1e4
    logits[5, 200:] = -1e4
    labels = np.stack([rng.choice(WIDTH, OPTIONS, replace=False) for _ in logits])
    labels[2] = [3, 0, 1, 2]
    logits = logits.astype(np.float32)
    return logits, np.take_along_axis(logits, labels, axis=1)


LOGITS, CHOICES = rows()


ORDER = np.random.default_rng(1).permutation(len(LOGITS))
TEMPERATURES = (0.5, 0.8, 1.0, 1.3, 2.0, 5.0)


@functools.cache
def tables(case, nucleus="inclusive"):
    """Measures of all rows under a change of the input, computed once for the tests of every measure."""
    if case == "one row at a time":
        alone = [
            output_measures(logits=LOGITS[[n]], choice_logits=CHOICES[[n]], nucleus=nucleus) for n in range(len(LOGITS))
        ]
        return pd.concat(alone, ignore_index=True)
    logits, choices = LOGITS, CHOICES
    if case == "rows shuffled":
        logits, choices = LOGITS[ORDER], CHOICES[ORDER]
    elif case == "tokens shuffled":
        logits = LOGITS[:, np.random.default_rng(2).permutation(WIDTH)]
    elif case != "given":
        logits, choices = LOGITS / np.float32(case), CHOICES / np.float32(case)
    return output_measures(logits=logits, choice_logits=choices, nucleus=nucleus)


def measure(name, nucleus="inclusive", case="given"):
    return tables(case, nucleus)[name].to_numpy()


every_measure = pytest.mark.parametrize("name", MEASURES)
every_nucleus = pytest.mark.parametrize("nucleus", NUCLEI)


@every_measure
@every_nucleus
def test_row_order_does_not_matter(name, nucleus):
    np.testing.assert_array_equal(measure(name, nucleus, "rows shuffled"), measure(name, nucleus)[ORDER])


@every_measure
@every_nucleus
def test_batch_equals_loop(name, nucleus):
    np.testing.assert_array_equal(measure(name, nucleus), measure(name, nucleus, "one row at a time"))


@every_measure
def test_order_of_the_vocabulary_does_not_matter(name):
    shuffled = measure(name, case="tokens shuffled")
    np.testing.assert_allclose(shuffled, measure(name), rtol=1e-12, atol=1e-14)


@every_measure
def test_finite_in_gives_finite_out(name):
    assert np.isfinite(measure(name)).all()


@every_measure
def test_missing_only_where_an_exclusive_nucleus_is_empty(name):
    found = measure(name, "exclusive")
    if name.startswith("top_p_entropy"):
        size = measure(name.removesuffix("_normalized").replace("entropy", "size"), "exclusive")
        assert (size == 0).any()
        np.testing.assert_array_equal(np.isnan(found), size == 0)
    else:
        assert np.isfinite(found).all()


@every_measure
@every_nucleus
def test_stated_range(name, nucleus):
    stated = MEASURES[name]
    found = measure(name, nucleus)
    present = ~np.isnan(found)
    maximum = stated.maximum
    if isinstance(maximum, str):
        size = measure(name.replace("entropy", "size"), nucleus) if maximum == "ln size" else None
        maximum = value_of(maximum, size)
    maximum = np.broadcast_to(maximum, found.shape)
    assert (found[present] >= stated.minimum).all()
    assert (found[present] <= maximum[present]).all()


def value_of(formula, size):
    value = {"V": WIDTH, "K": OPTIONS, "size": size}
    if formula in value:
        return value[formula]
    what = formula.removeprefix("ln ")
    count = value[what] if what in value else float(what)
    with np.errstate(divide="ignore"):
        return np.log(count)


@every_measure
def test_range_is_reached_or_neared_at_its_ends(name):
    """A stated bound that no logits come near would be a wrong bound."""
    found = measure(name)
    stated = MEASURES[name]
    assert found.min() < 0.05 + stated.minimum + (name.startswith("top_p_size") or 0)
    if stated.maximum == 1 and name not in ("choice_mass", "choice_probability"):
        assert found.max() > 0.95


@every_measure
@every_nucleus
def test_stated_direction_between_a_certain_and_an_uncertain_row(name, nucleus):
    uncertain = np.zeros(WIDTH)
    certain = np.full(WIDTH, -20.0)
    certain[7] = 20
    if name == "varentropy":
        # 0 at both ends: uncertain is a row whose likely and unlikely tokens share the mass.
        uncertain[7] = math.log(WIDTH)
    if name.startswith("top_p_entropy") and nucleus == "exclusive":
        # The surest row has an empty nucleus there; p = 0.45, 0.4 and 0.15 leaves none empty.
        certain[[7, 8, 9]] = np.log([0.45, 0.4, 0.15]) + 20
    logits = np.stack([certain, uncertain])
    table = output_measures(logits=logits, choice_logits=logits[:, 7 : 7 + OPTIONS], nucleus=nucleus)
    sure, unsure = table[name]
    assert MEASURES[name].direction * (unsure - sure) > 0


@pytest.mark.parametrize("name", [name for name in MEASURES if name not in NOT_MONOTONE])
@every_nucleus
def test_heating_makes_every_row_more_uncertain(name, nucleus):
    # Row 5 is uniform over 200 tokens at every temperature, the rows before it are made for other tests.
    found = np.stack([measure(name, nucleus, temperature)[6:] for temperature in TEMPERATURES])
    steps = MEASURES[name].direction * np.diff(found, axis=0)
    assert (steps[~np.isnan(steps)] >= -1e-12).all()
    assert np.nanmax(steps) > 0.01


@every_measure
def test_nan_is_refused(name):
    logits, choices = LOGITS.copy(), CHOICES.copy()
    if MEASURES[name].family == "vocabulary":
        logits[9, 500] = np.nan
    else:
        choices[9, 1] = np.nan
    with pytest.raises(ValueError, match=r"NaN.* in row 9"):
        output_measures(logits=logits, choice_logits=choices, measures=[name])


@every_measure
def test_normalized_twins_follow_their_raw_measure(name):
    stated = MEASURES[name]
    if stated.raw is None:
        assert not name.endswith("_normalized")
        return
    assert name == f"{stated.raw}_normalized"
    raw = MEASURES[stated.raw]
    assert (raw.raw, raw.direction, raw.family, raw.unit) == (None, stated.direction, stated.family, "nats")
    np.testing.assert_array_equal(measure(name) == 0, measure(stated.raw) == 0)


def test_table_lists_exactly_the_documented_measures():
    entropies = ["total_entropy", *(f"top_k_entropy_{k}" for k in TOP_K), *(f"top_p_entropy_{p:g}" for p in TOP_P)]
    entropies += ["choice_entropy"]
    others = ["top_1_probability", "varentropy", *(f"top_p_size_{p:g}" for p in TOP_P)]
    others += ["choice_probability", "choice_mass", "choice_margin"]
    assert sorted(MEASURES) == sorted([*entropies, *(f"{name}_normalized" for name in entropies), *others])
    listed = measure_table.measure_table()
    assert isinstance(listed, pd.DataFrame)
    assert listed["name"].to_list() == list(MEASURES)
    for name, stated in MEASURES.items():
        assert stated.name == name
        assert stated.definition
        assert stated.unit in ("nats", "nats^2", "probability", "tokens", "share")
    assert list(listed.columns) == [field.name for field in dataclasses.fields(MEASURES["total_entropy"])]


def test_every_vocabulary_measure_has_its_statistic():
    statistics = set(logit_statistics(LOGITS))
    needed = set()
    for name, stated in MEASURES.items():
        if stated.family == "vocabulary" and stated.raw is None:
            needed |= {f"{name}_{nucleus}" for nucleus in NUCLEI} if name.startswith("top_p") else {name}
    assert statistics == needed | {"log_sum_exp"}


@every_measure
def test_direction_is_looked_up_by_name(name):
    assert direction(name) == MEASURES[name].direction
    assert direction(name) in (-1, 1)


@pytest.mark.parametrize(
    ("name", "nearest"), [("choice_entrpy", "choice_entropy"), ("top_p_size_0.8", "top_p_size_0.9"), ("", "")]
)
def test_unknown_measure_names_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=rf"name parameter of direction .* Got '{name}' instead. .*'{nearest}"):
        direction(name)


def test_the_table_of_measures_does_not_load_torch():
    code = "import sys, doubtlens.probes.measure_table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
