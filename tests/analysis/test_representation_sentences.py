"""What a study says of its representation: every sentence from the numbers of its table, and each verdict both ways."""

import numpy as np
import pandas as pd
import pytest

from doubtlens.analysis import (
    behaviour_sentences,
    intervention_sentences,
    layer_sentences,
    transfer_sentences,
    two_target_sentences,
)
from doubtlens.analysis.phrases import by
from doubtlens.analysis.representation_cautions import controls as control_cautions

SETTINGS = {"n_bootstrap": 50, "interval": "percentile", "level": 0.95}
RUN = {"model": "m", "dataset": "d", "prompt": "p", "site": "resid_post", "position": "last", "scoring": None}


def told(write, table):
    """Every paragraph of a writer as (title, text of all clauses, method)."""
    return [
        (title, " | ".join(text for _, text in clauses), method)
        for title, clauses, method in write(pd.DataFrame(table), {}, SETTINGS)
    ]


def control(name, score, *, as_good=None, difference=np.nan, **keys):
    return {
        **RUN,
        "target": "human_entropy_normalized",
        "control": name,
        "score_name": "pearson",
        "score": score,
        "ci_low": score - 0.1,
        "ci_high": score + 0.1,
        "difference": difference,
        "difference_ci_low": difference - 0.1,
        "difference_ci_high": difference + 0.1,
        "as_good": as_good,
        **keys,
    }


CONTROLS = [
    control("probe", 0.3),
    control("options_and_length", 0.28, as_good=True, difference=0.02),
    control("tfidf", 0.05, as_good=False, difference=0.25),
]


def test_values_that_are_missing_are_a_group_of_their_own():
    table = pd.DataFrame({"scoring": ["a", None, "a", np.nan], "x": range(4)})
    assert [(key, rows["x"].tolist()) for key, rows in by(table, "scoring")] == [("a", [0, 2]), (None, [1, 3])]


def test_controls_that_are_as_good_are_named():
    ((title, text, _),) = told(layer_sentences.controls, CONTROLS)
    assert title == "What the probe of normalised human entropy must beat"
    assert "for m, the probe's nested Pearson r is 0.30 [0.20, 0.40]" in text
    assert "the number of options and the length 0.28 [0.18, 0.38] (difference 0.02 [−0.08, 0.12])" in text
    assert text.endswith("the number of options and the length is as good as far as these items can tell")
    ((_, text, _),) = told(layer_sentences.controls, [CONTROLS[0], CONTROLS[2]])
    assert text.endswith("none of them is as good")


def test_many_models_are_counted():
    rows = [{**row, "model": f"m{number}"} for number in range(4) for row in CONTROLS]
    rows[1] |= {"as_good": False}
    ((_, text, _),) = told(layer_sentences.controls, rows)
    assert "the probe's nested Pearson r over 4 models: from 0.30" in text
    assert "the number of options and the length for 3 and the words of the question for 0" in text


def test_a_control_that_explains_a_finding_is_a_warning():
    ((code, grade, text, place),) = control_cautions({"probe_controls": pd.DataFrame(CONTROLS)})
    assert (code, grade, place) == ("control_as_good", "serious", ("d", "p"))
    assert "m, human_entropy_normalized: probe 0.30, the number of options and the length 0.28" in text
    assert "words of the question" not in text


@pytest.mark.parametrize(
    "rows",
    [
        [CONTROLS[0], CONTROLS[2]],  # nothing is as good
        [control("probe", 0.05), CONTROLS[1]],  # the probe found nothing itself
        [control("probe", 0.55, score_name="auroc"), control("tfidf", 0.54, as_good=True, difference=0.0)],
        [],
    ],
)
def test_no_warning_without_a_finding_or_a_rival(rows):
    assert list(control_cautions({"probe_controls": pd.DataFrame(rows)})) == []


def test_learning_says_where_it_ends_and_what_the_last_items_gave():
    rows = [
        {
            **RUN,
            "target": "correct",
            "score_name": "auroc",
            "n_train": n,
            "score": s,
            "ci_low": s - 0.1,
            "ci_high": s + 0.1,
        }
        for n, s in ((40, 0.6), (10, 0.5), (20, 0.52))
    ]
    ((_, text, _),) = told(layer_sentences.learning, rows)
    assert text == (
        "for m, the AUROC of correctness goes from 0.50 [0.40, 0.60] with 10 items to 0.60 [0.50, 0.70] with 40, 0.08 "
        "of "
        "it since 20"
    )


@pytest.mark.parametrize(("p", "verdict"), [(0.01, False), (0.4, True)])
def test_similarity_tells_the_best_layer(p, verdict):
    rows = [
        {
            **RUN,
            "layer": layer,
            "n": 30,
            "n_pairs": 1200,
            "rsa": rsa,
            "p_max": p,
            "best": layer == 2,
            "human": "hellinger",
        }
        for layer, rsa in ((1, 0.01), (2, 0.123))
    ]
    ((_, text, _),) = told(layer_sentences.similarity, rows)
    assert "the distances of layer 2 correlate most with those of people's profiles, at 0.123 over 1,200 pairs" in text
    assert ("not distinguishable" in text) == verdict
    assert told(layer_sentences.similarity, [{**row, "rsa": np.nan} for row in rows]) == []


def compared(measure, r, p_holm, **keys):
    figures = {"r_measure": r, "r_probe": 0.4, "difference": 0.4 - r}
    bounds = {f"{name}_ci_{end}": value for name, value in figures.items() for end in ("low", "high")}
    row = {**RUN, "nucleus": "any", "target": "human_entropy_normalized", "measure": measure, "method": "pearson"}
    return {**row, **figures, **bounds, "p_holm": p_holm, **keys}


def test_behaviour_names_the_best_measure_and_counts_what_survives():
    rows = [compared("total_entropy", 0.1, 0.01), compared("top_1_probability", 0.3, 0.2), compared("x", 0.6, 0.03)]
    ((_, text, method),) = told(behaviour_sentences.behaviour, rows)
    assert "the probe reaches 0.40 [0.40, 0.40] and the best of 3 measures, x, 0.60" in text
    assert "the probe says more than 1 of them and less than 1" in text
    assert "50" in method
    many = [{**row, "model": f"m{number}"} for number in range(4) for row in rows[:1]]
    ((_, text, _),) = told(behaviour_sentences.behaviour, many)
    assert "over 4 models: from 0.30" in text
    assert "the probe says more in 4 and less in 0" in text


def test_increments_tell_both_ways():
    row = {**RUN, "scoring": "any", "target": "correct", "r2_measures": 0.05, "r2_probe": 0.08, "r2_both": 0.1}
    for name, value in (("probe_over_measures", 0.05), ("measures_over_probe", 0.02)):
        row |= {name: value, f"{name}_ci_low": 0.01, f"{name}_ci_high": 0.09, f"{name}_p": 0.04}
    ((title, text, _),) = told(behaviour_sentences.increments, [row])
    assert title == "What each adds about correctness"
    assert "the probe adds 0.050 [0.010, 0.090] (p = 0.040) to the measures, and they add 0.020" in text
    many = [{**row, "model": f"m{number}", "probe_over_measures_p": 0.2} for number in range(4)]
    ((_, text, _),) = told(behaviour_sentences.increments, many)
    assert "p < 0.05 in 0; that they add to it: from 0.02" in text


def test_the_lens_tells_the_clearest_layer_and_the_output():
    rows = []
    for layer, human, p in ((0, -0.02, 0.9), (1, -0.3, 0.01), (2, 0.2, 0.04)):
        row = {**RUN, "scoring": "label_single", "measure": "total_entropy", "layer": layer, "human_spearman": human}
        row |= {"p_max": p, "correct_p_max": 0.5, "correct_auroc": 0.5}
        for name in ("human_spearman", "correct_auroc"):
            row |= {f"{name}_ci_low": row[name] - 0.1, f"{name}_ci_high": row[name] + 0.1}
        rows.append(row)
    ((_, text, _),) = told(behaviour_sentences.lens, rows)
    human, errors = text.split(" | ")
    assert "most related to human entropy (Spearman) at layer 1, −0.30 [−0.40, −0.20] (p = 0.010" in human
    assert "at the output 0.20 [0.10, 0.30]; 2 layers stand out, from 1 to 2" in human
    assert "not distinguishable from none" in errors


def both_targets(layer, cosine, p, **keys):
    row = {
        **RUN,
        "scoring": "text_sum",
        "layer": layer,
        "cosine": cosine,
        "cosine_p_max": p,
        "target_correlation": -0.2,
    }
    for name, value in (
        ("nested_first_on_second", 0.61), ("nested_second_on_first", 0.12), ("nested_first_shared", 0.013),
        ("nested_first_unique_own", 0.08),
    ):  # fmt: skip
        row |= {name: value, f"{name}_ci_low": value - 0.01, f"{name}_ci_high": value + 0.01}
    return {**row, **keys}


def test_two_targets_tell_the_clearest_cosine_and_the_cross_predictions():
    rows = [both_targets(0, 0.5, 0.6), both_targets(3, -0.4, 0.02)]
    ((_, text, _),) = told(two_target_sentences.two_targets, rows)
    assert "of 2 layers the clearest cosine is that of layer 3, −0.40 (p = 0.020 against the maximum" in text
    assert "not distinguishable" not in text
    assert "predicts errors with an AUROC of 0.61 [0.60, 0.62]" in text
    assert "0.013 [0.003, 0.023] is read by both probes, 0.080 [0.070, 0.090] by its own alone" in text
    ((_, text, _),) = told(two_target_sentences.two_targets, rows[:1])
    assert "not distinguishable from no relation" in text
    ((_, text, _),) = told(two_target_sentences.two_targets, [{**rows[1], "model": f"m{n}"} for n in range(4)])
    assert "4 of 4 models have p < 0.05" in text
    assert told(two_target_sentences.two_targets, [both_targets(0, np.nan, np.nan)]) == []


def moved(mode, dose, figure="total_entropy", *, p=0.05, direction="probe", **keys):
    row = {**RUN, "layer": 5, "target": "correct", "where": "last", "mode": mode, "direction": direction, "dose": dose}
    row |= {"figure": figure, "n": 64, "n_random": 20, "change": 0.1, "size": 0.2, "size_random": 0.05, "size_p": 0.048}
    return {**row, "slope": 0.01, "slope_ci_low": 0.005, "slope_ci_high": 0.015, "slope_p": p, **keys}


@pytest.mark.parametrize(("p", "verdict"), [(0.048, False), (0.3, True)])
def test_interventions_tell_slopes_and_removal(p, verdict):
    rows = [
        moved("add", 1.0, p=p),
        moved("add", 2.0, p=p),
        moved("remove", np.nan),
        moved("add", 1.0, direction="random"),
    ]
    ((title, text, method),) = told(intervention_sentences.interventions, rows)
    assert title == "Moving along the probe of correctness"
    slope, removal = text.split(" | ")
    assert "for m at layer 5, total entropy (nats) changes by 0.010 [0.005, 0.015] per standard deviation" in slope
    assert ("no more than random directions do" in slope) == verdict
    assert "removing what the probe reads from m changes total entropy (nats) by 0.200 on average over items" in removal
    assert "64 items" in method
    assert "20 random directions" in method


def test_interventions_of_many_models_are_counted():
    rows = [moved("add", 1.0, p=p, model=f"m{number}") for number, p in enumerate((0.04, 0.3, 0.3, 0.04))]
    ((_, text, _),) = told(intervention_sentences.interventions, rows)
    assert "per standard deviation over 4 interventions: from 0.01" in text
    assert "2 have p < 0.05" in text


def sent(train, test, score, p=0.2):
    row = {"target": "correct", "score_name": "auroc", "train": train, "test": test, "score": score, "p": p}
    return {**row, "ci_low": score - 0.1, "ci_high": score + 0.1}


def test_transfer_sets_other_probes_beside_the_runs_own():
    rows = [sent("a", "a", 0.7, 0.01), sent("b", "a", 0.6), sent("c", "a", 0.5)]
    ((title, text, method),) = told(transfer_sentences.transfer, rows)
    assert title == "Probes of other runs: correctness"
    assert text == (
        "on a, its own probe reaches 0.70 [0.60, 0.80], that of b 0.60 [0.50, 0.70] (p = 0.20) and that of c 0.50 "
        "[0.40, 0.60] (p = 0.20)"
    )
    assert method.startswith("AUROC")
    many = [sent(f"run {number}", "a", 0.5 + number / 100, 0.01) for number in range(7)]
    ((_, text, _),) = told(transfer_sentences.transfer, many)
    assert "the probes of 7 other runs go from 0.50 (run 0) to 0.56 (run 6)" in text
    assert "7 of them have p < 0.05" in text
    assert told(transfer_sentences.transfer, rows[:1]) == []


def test_geometry_tells_cka_and_the_clearest_cosine():
    rows = [
        {"pair": "x", "layer": layer, "target": "correct", "cosine": cosine, "cosine_p_max": p}
        | {"cka": cka, "cka_ci_low": cka, "cka_ci_high": cka}
        for layer, cka, cosine, p in ((0, 0.9, 0.1, 0.8), (1, 0.4, 0.7, 0.03))
    ]
    ((title, text, _),) = told(transfer_sentences.geometry, rows)
    assert title == "The layers of base and instruct: x"
    assert "from 0.40 (layer 1) to 0.90 (layer 0), median 0.65; it is least at layer 1" in text
    assert "the directions of correctness have their clearest cosine at layer 1, 0.70 (p = 0.030" in text
