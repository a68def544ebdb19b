"""Output measures: choice measures against a float64 loop, availability, conventions and every refusal."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.special
import scipy.stats
import torch

from doubtlens.extract.statistics import logit_statistics
from doubtlens.probes import output_measures
from doubtlens.probes.measure_table import MEASURES

INF = float("inf")
NAN = float("nan")
CHOICE = [name for name, measure in MEASURES.items() if measure.family == "choice"]
VOCABULARY = [name for name, measure in MEASURES.items() if measure.family == "vocabulary"]


def loop_choice(log_p):
    """Choice measures of one item's K log-probabilities, by the definitions."""
    p = [math.exp(value) for value in log_p]
    mass = math.fsum(p)
    share = [value / mass for value in p]
    first, second = sorted(share, reverse=True)[:2]
    entropy = -math.fsum(value * math.log(value) for value in share if value > 0)
    best = max(log_p)
    return {
        "choice_entropy": entropy,
        "choice_entropy_normalized": entropy / math.log(len(p)),
        "choice_probability": max(p),
        "choice_mass": mass,
        "choice_margin": first - second,
        "choice": log_p.index(best),
        "choice_ties": log_p.count(best),
    }


def vocabulary_and_choices(n=30, width=400, seed=0, scale=3.0, options=(2, 3, 5, 26)):
    """Random logits, the logits of each row's K labels, and K."""
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal((n, width)) * scale).astype(np.float32)
    counts = rng.choice(options, n)
    choice = np.full((n, max(options)), np.nan)
    for row, k in enumerate(counts):
        choice[row, :k] = logits[row, rng.choice(width, k, replace=False)]
    return logits, choice, counts


def make_run(logits, choice, scorings=("label_single", "label_variants"), log_p=None, **info):
    counts = (~np.isnan(choice)).sum(axis=1)
    if log_p is None:
        log_p = choice - scipy.special.logsumexp(logits.astype(np.float64), axis=1, keepdims=True)
    return SimpleNamespace(
        items=pd.DataFrame({"id": [f"q{row}" for row in range(len(logits))], "n_options": counts}),
        info={"model": "m", "dataset": "d", "prompt": "two_shot", "setting": "choice", "permutations": "none"}
        | {"vocab_size": logits.shape[1], "checkpoint": "org/m"}
        | info,
        scorings=scorings,
        statistics=lambda: pd.DataFrame(logit_statistics(logits)),
        choice_scores=lambda scoring: log_p,
    )


def test_choice_measures_equal_the_definitions_computed_in_a_loop():
    logits, choice, counts = vocabulary_and_choices()
    choice[3, 1] = -INF
    choice[4, : counts[4]] = logits[4, 0]
    choice[5, : counts[5]] = [logits[5].max(), *[-INF] * (counts[5] - 1)]
    logits[4] = -20
    logits[4, : counts[4]] = choice[4, 0]
    log_sum_exp = scipy.special.logsumexp(logits.astype(np.float64), axis=1)
    table = output_measures(logits=logits, choice_logits=choice)
    for row, k in enumerate(counts):
        expected = loop_choice((choice[row, :k] - log_sum_exp[row]).tolist())
        for name, value in expected.items():
            assert table[name][row] == pytest.approx(value, rel=1e-10, abs=1e-14), (name, row)


def test_three_options_solved_by_hand():
    # p = 1/2, 1/4 and 1/8 of the vocabulary; renormalised 4/7, 2/7, 1/7.
    logits = np.log([[1 / 4, 1 / 8, 1 / 2, 1 / 8]])
    table = output_measures(logits=logits, choice_logits=logits[:, :3])
    row = table.iloc[0]
    assert row["choice_mass"] == pytest.approx(7 / 8, abs=1e-15)
    assert row["choice_probability"] == pytest.approx(1 / 2, abs=1e-15)
    assert row["choice_margin"] == pytest.approx(2 / 7, abs=1e-15)
    assert row["choice_entropy"] == pytest.approx(math.log(7) - 10 / 7 * math.log(2), abs=1e-15)
    assert (row["choice"], row["choice_ties"]) == (2, 1)
    assert table["choice"].dtype == table["choice_ties"].dtype == np.int64


def test_normalised_twins_divide_by_the_logarithm_of_their_own_count():
    logits, choice, counts = vocabulary_and_choices()
    for nucleus in ("inclusive", "exclusive"):
        table = output_measures(logits=logits, choice_logits=choice, nucleus=nucleus)
        for name, measure in MEASURES.items():
            if measure.raw is None:
                continue
            outcomes = {
                "ln V": 400,
                "ln K": counts,
                "ln size": table.get(name[:-11].replace("entropy", "size")),
            }
            bound = str(MEASURES[measure.raw].maximum)
            count = outcomes[bound] if bound in outcomes else int(bound.removeprefix("ln "))
            with np.errstate(divide="ignore", invalid="ignore"):
                expected = np.where(np.asarray(count) == 1, 0, table[measure.raw] / np.log(count))
            np.testing.assert_allclose(table[name], expected, rtol=1e-14, err_msg=name)


def test_choice_entropy_equals_scipy():
    _, choice, _ = vocabulary_and_choices(options=(4,))
    table = output_measures(choice_logits=choice)
    p = scipy.special.softmax(choice, axis=1)
    np.testing.assert_allclose(table["choice_entropy"], scipy.stats.entropy(p, axis=1), rtol=1e-12)


@pytest.mark.parametrize("k", [2, 26])
def test_uniform_and_certain_choices(k):
    certain = np.full(k, -INF)
    certain[k - 1] = -3.0
    table = output_measures(choice_logits=np.stack([np.full(k, -5.0), certain]))
    assert table["choice_entropy"][0] == pytest.approx(math.log(k), abs=1e-14)
    assert table["choice_entropy_normalized"].to_list() == [pytest.approx(1, abs=1e-15), 0]
    np.testing.assert_allclose(table["choice_margin"], [0, 1], atol=1e-15)
    assert table["choice"].to_list() == [0, k - 1]
    assert table["choice_ties"].to_list() == [k, 1]


def test_vocabulary_statistics_pass_through_under_the_named_nucleus():
    logits, _, _ = vocabulary_and_choices()
    statistics = logit_statistics(logits)
    for nucleus in ("inclusive", "exclusive"):
        table = output_measures(logits=logits, nucleus=nucleus)
        assert (table["nucleus"] == nucleus).all()
        for name in VOCABULARY:
            if MEASURES[name].raw is None:
                key = f"{name}_{nucleus}" if name.startswith("top_p") else name
                np.testing.assert_array_equal(table[name], statistics[key])


def test_run_and_arrays_give_the_same_measures():
    logits, choice, _ = vocabulary_and_choices()
    from_run = output_measures(make_run(logits, choice))
    from_arrays = output_measures(logits=logits, choice_logits=choice)
    keys = ["model", "dataset", "item", "prompt", "setting", "scoring", "nucleus"]
    assert list(from_run.columns) == [*keys, *MEASURES, "choice", "choice_ties"]
    assert from_run["item"].to_list() == [f"q{row}" for row in range(30)]
    assert from_run.loc[0, keys].to_list() == [
        "m",
        "d",
        "q0",
        "two_shot",
        "choice",
        "label_single",
        "inclusive",
    ]
    assert isinstance(from_run.index, pd.RangeIndex)
    pd.testing.assert_frame_equal(from_run[from_arrays.columns], from_arrays, rtol=1e-9)


def test_tensors_and_arrays_give_the_same_measures():
    logits, choice, counts = vocabulary_and_choices()
    expected = output_measures(logits=logits, choice_logits=choice, n_options=counts)
    found = output_measures(logits=torch.from_numpy(logits), choice_logits=torch.from_numpy(choice))
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_n_options_decides_what_is_read():
    logits, choice, counts = vocabulary_and_choices()
    padded = np.where(np.isnan(choice), 1e9, choice)
    expected = output_measures(logits=logits, choice_logits=choice)
    found = output_measures(logits=logits, choice_logits=padded, n_options=counts.tolist())
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_scoring_of_a_run_defaults_to_labels_then_texts():
    logits, choice, _ = vocabulary_and_choices()
    assert set(output_measures(make_run(logits, choice))["scoring"]) == {"label_single"}
    run = make_run(logits, choice, scorings=("text_mean", "text_sum"))
    assert set(output_measures(run)["scoring"]) == {"text_sum"}
    assert set(output_measures(run, scoring="text_mean")["scoring"]) == {"text_mean"}


def test_wanted_measures_come_alone_and_in_the_table_s_order():
    logits, choice, _ = vocabulary_and_choices()
    table = output_measures(
        logits=logits, choice_logits=choice, measures=["choice_margin", "total_entropy", "top_p_size_0.9"]
    )
    names = ["total_entropy", "top_p_size_0.9", "choice_margin"]
    assert list(table.columns) == ["scoring", "nucleus", *names, "choice", "choice_ties"]


def test_texts_have_no_normaliser_of_the_vocabulary():
    logits, _, _ = vocabulary_and_choices(n=1)
    scores = np.log([[0.2, 0.1]])
    table = output_measures(logits=logits, choice_logits=scores, scoring="text_sum")
    assert table["choice_probability"][0] == pytest.approx(0.2)
    assert table["choice_mass"][0] == pytest.approx(0.3)
    assert table["choice_margin"][0] == pytest.approx(1 / 3)


def absent_cases():
    logits, choice, _ = vocabulary_and_choices()
    unnormalised = ["choice_probability", "choice_mass"]
    log_p = choice - 30
    run, text_run = make_run(logits, choice, permutations="cyclic"), make_run(logits, choice, ("text_mean",), log_p)
    text = {"scoring": "text_mean"}
    yield "text_mean", (text_run,), text, unnormalised, "no probability"
    yield "text_mean arrays", (), text | {"choice_logits": log_p}, unnormalised, "no probability"
    yield "cyclic", (run,), {}, unnormalised, "permutations='cyclic'"
    yield "labels alone", (), {"choice_logits": choice}, unnormalised, "without logits"
    yield "no logits", (), {"choice_logits": choice}, VOCABULARY, "needs logits"
    yield "no choices", (), {"logits": logits}, CHOICE, "needs choice_logits"
    large = ["top_k_entropy_50", "top_k_entropy_100_normalized"]
    yield "small vocabulary", (), {"logits": logits[:, :30]}, large, "only 30 tokens"
    small_run = make_run(logits[:, :30], choice, log_p=log_p)
    yield "small vocabulary of a run", (small_run,), {}, large, "only 30 tokens"


@pytest.mark.parametrize(
    ("args", "kwargs", "names", "reason"),
    [pytest.param(*rest, id=name) for name, *rest in absent_cases()],
)
def test_what_the_input_cannot_give_is_left_out_and_refused_by_name(args, kwargs, names, reason):
    assert not set(names) & set(output_measures(*args, **kwargs).columns)
    for name in names:
        with pytest.raises(ValueError, match=f"Got '{name}' instead: .*{reason}"):
            output_measures(*args, **kwargs, measures=[name])


def test_published_convention_calls_the_surest_rows_the_most_uncertain():
    certain, likely = np.zeros(256), np.full(256, -30.0)
    certain[7] = 50
    likely[:2] = np.log([0.7, 0.3])
    logits = np.stack([np.zeros(256), certain, likely]).astype(np.float32)
    ours = output_measures(logits=logits, nucleus="exclusive")
    published = output_measures(logits=logits, nucleus="exclusive", convention="published")
    assert ours["top_p_size_0.75"].to_list() == [192, 0, 1]
    twins = [name for name in VOCABULARY if name.startswith("top_p_entropy") and name.endswith("_normalized")]
    assert len(twins) == 4
    for name in twins:
        assert np.isnan(ours[name][1])
        assert published[name][1] == 1
        assert np.isnan(published[MEASURES[name].raw][1])
        assert published[name][0] == ours[name][0]
    assert published["top_p_entropy_0.75_normalized"].to_list() == [1, 1, 0]
    rest = [name for name in ours.columns if name not in twins]
    pd.testing.assert_frame_equal(published[rest], ours[rest], check_exact=True)


def test_one_token_nucleus_has_no_entropy():
    logits = np.array([[10.0, *[-10.0] * 99]])
    table = output_measures(logits=logits)
    assert table["top_p_size_0.95"][0] == 1
    assert table["top_p_entropy_0.95"][0] == table["top_p_entropy_0.95_normalized"][0] == 0


@pytest.mark.parametrize("k", [2, 4, 5, 7, 26])
def test_rounding_does_not_lift_an_entropy_above_its_maximum(k):
    nearly_equal = np.random.default_rng(0).standard_normal((2000, k)) * 1e-8
    table = output_measures(choice_logits=nearly_equal)
    assert (table["choice_entropy"] <= np.log(k)).all()
    assert (table["choice_entropy_normalized"] <= 1).all()


def test_rounding_does_not_lift_a_probability_above_one():
    logits = np.full((1, 200), -np.inf)
    logits[0, :2] = [1.0, 2.0]
    table = output_measures(logits=logits, choice_logits=logits[:, :2] + 1e-7)
    assert table["choice_mass"][0] == 1
    table = output_measures(choice_logits=[[1e-7, -40.0]], scoring="text_sum")
    assert table["choice_probability"][0] == 1


def test_no_items():
    table = output_measures(logits=np.empty((0, 300), np.float32), choice_logits=np.empty((0, 4)))
    assert table.shape == (0, 2 + len(MEASURES) + 2)


LOGITS, CHOICES, COUNTS = vocabulary_and_choices(n=4, options=(3, 4))


def changed(row, column, value):
    scores = CHOICES.copy()
    scores[row, column] = value
    return scores


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "run parameter of output_measures must be a run, or logits or choice_logits"),
        ({"logits": LOGITS, "nucleus": "inclusiv"}, "nucleus parameter .* Did you mean 'inclusive'"),
        ({"logits": LOGITS, "convention": "publish"}, "Did you mean 'published'"),
        ({"logits": LOGITS, "convention": "published"}, "None unless nucleus='exclusive'"),
        ({"logits": LOGITS, "measures": ["total_entropi"]}, "Did you mean 'total_entropy'"),
        ({"logits": LOGITS, "measures": "total_entropy"}, r"a list of names. .*pass \['total_entropy'\]"),
        ({"choice_logits": CHOICES, "scoring": "label_simple"}, "Did you mean 'label_single'"),
        ({"logits": LOGITS, "scoring": "label_single"}, "choice_logits parameter .* where scoring or n_options"),
        ({"logits": LOGITS, "n_options": COUNTS}, "choice_logits parameter .* where scoring or n_options"),
        ({"logits": LOGITS[0]}, r"shape \[rows, vocabulary\]. Got ndarray of shape \(400,\)"),
        ({"logits": LOGITS, "choice_logits": CHOICES[0]}, r"shape \[rows, options\]. Got shape \(4,\)"),
        ({"logits": LOGITS, "choice_logits": CHOICES[:3]}, "one row per item, 4. Got 3 rows"),
        ({"choice_logits": CHOICES, "n_options": COUNTS[:3]}, r"one integer per row, 4. Got shape \(3,\)"),
        ({"choice_logits": CHOICES, "n_options": [3.0] * 4}, "Got shape .4,. of dtype float64"),
        ({"choice_logits": CHOICES, "n_options": [3, 5, 3, 3]}, "Got a larger n_options in row 1"),
        ({"choice_logits": CHOICES, "n_options": [3, 3, 1, 3]}, "at least 2 options .* Got fewer in row 2"),
        ({"choice_logits": changed(2, slice(1, None), NAN)}, "at least 2 options .* Got fewer in row 2"),
        ({"choice_logits": changed(1, 1, NAN)}, "NaN only beyond the last option .* before a score in row 1"),
        ({"choice_logits": changed(1, 1, NAN), "n_options": [3] * 4}, "each of its K .* Got NaN in row 1"),
        ({"choice_logits": changed(3, 0, INF)}, r"no \+inf in every row. Got \+inf in row 3"),
        ({"choice_logits": changed(3, slice(3), -INF), "n_options": [3] * 4}, "Got only -inf in row 3"),
        ({"logits": LOGITS, "choice_logits": changed(2, 0, 40.0)}, "at most 1, .* Got more in row 2"),
        ({"choice_logits": changed(2, 0, 40.0) - 39, "scoring": "text_sum"}, "at most 0 .* Got more in row 2"),
    ],
)
def test_refusals(kwargs, message):
    with pytest.raises(ValueError, match=message):
        output_measures(**kwargs)


def test_refusals_for_a_run():
    run = make_run(LOGITS, CHOICES, permutations="cyclic")
    with pytest.raises(ValueError, match=r"scoring parameter .* 'label_variant' .* mean 'label_variants'"):
        output_measures(run, scoring="label_variant")
    with pytest.raises(ValueError, match=r"must name an answer scoring of the run .* Got 'text_sum'"):
        output_measures(run, scoring="text_sum")
    with pytest.raises(ValueError, match=r"convention parameter .* permutations='cyclic'"):
        output_measures(run, nucleus="exclusive", convention="published")
    with pytest.raises(ValueError, match=r"run parameter .* must be None where logits"):
        output_measures(run, logits=LOGITS)


def test_bad_scores_of_a_run_say_where_they_come_from():
    run = make_run(LOGITS, CHOICES, log_p=CHOICES + 100)
    with pytest.raises(ValueError, match="at most 1") as refusal:
        output_measures(run)
    assert "label_single scores of the run" in refusal.value.__notes__[0]
