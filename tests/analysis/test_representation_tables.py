"""The tables of a study's representation: what is made of the signals, what is passed on, what is refused."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from doubtlens.analysis import dose_response, find, incremental_r2
from doubtlens.analysis.representation_gallery import across_figures, representation_figures
from doubtlens.analysis.representation_tables import representation_tables
from doubtlens.analysis.study_tables import Plan

DRAWS = 20
MEASURES = ("choice_entropy_normalized", "total_entropy_normalized")
TARGET = "human_entropy_normalized"


@pytest.fixture
def probed(make_signals):
    """Signals with predictions of a probe, of all measures, and of both."""
    signals = make_signals()
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, len(signals))
    predictions = {
        f"probe_{TARGET}": noise,
        f"measures_{TARGET}": noise[::-1],
        f"probe_and_measures_{TARGET}": noise / 2,
    }
    return signals.assign(**{name: signals[TARGET] + values for name, values in predictions.items()})


def made(signals, **given):
    """The tables of the representation, by name."""
    plan = Plan(
        measures=MEASURES, seed=0, n_bootstrap=DRAWS, interval="percentile", n_permutations=20, cluster=None, pairs=(),
        reordered=(),
    )  # fmt: skip
    return SimpleNamespace(**representation_tables(signals, given, plan))


def moved(items=6):
    rows = [
        {"model": "model-a", "dataset": "made", "prompt": "two_shot", "site": "resid_post", "position": "last"}
        | {"layer": 1, "target": TARGET, "where": "last", "mode": mode, "direction": direction, "draw": draw}
        | {"dose": dose, "item": f"q{item}", "total_entropy": 1.0 + dose * (direction == "probe") + 0.01 * item}
        for mode, direction, draw, dose in (
            ("none", "none", pd.NA, 0.0), ("add", "probe", pd.NA, 1.0), ("add", "random", 0, 1.0),
        )
        for item in range(items)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_nothing_is_made_of_a_study_without_probes(make_signals):
    findings = made(make_signals())
    for name in ("behaviour", "incremental", "lens", "interventions", "probe_controls", "transfer"):
        assert getattr(findings, name).empty


def test_measures_are_set_beside_the_probe_and_corrected_together(probed):
    findings = made(probed)
    table = findings.behaviour
    assert set(table["target"]) == {TARGET}
    assert set(table["measure"]) == set(MEASURES)
    assert (table["p_holm"] >= table["p"] - 1e-12).all()
    single = probed.drop_duplicates("item")
    expected = incremental_r2(single, target=TARGET, rng=np.random.default_rng(0), n_bootstrap=DRAWS)
    for name in ("r2_measures", "r2_probe", "r2_both"):
        assert findings.incremental[name].item() == pytest.approx(expected[name].iloc[0], abs=1e-12)
    assert findings.incremental["n"].item() == len(single)


def test_interventions_are_summarised(probed):
    findings = made(probed, interventions=moved())
    expected = dose_response(moved(), rng=np.random.default_rng(0), n_bootstrap=DRAWS)
    assert findings.interventions["change"].tolist() == expected["change"].tolist()
    probe = findings.interventions.query("direction == 'probe'")
    assert probe["change"].item() == pytest.approx(1.0)


def test_tables_are_passed_on_as_they_are(probed):
    given = pd.DataFrame(
        {"train": ["a"], "test": ["b"], "score": [0.25], "score_name": ["pearson"], "target": [TARGET]}
    )
    given = given.assign(p=0.5, ci_low=0.1, ci_high=0.4)
    findings = find(
        probed, seed=0, n_bootstrap=DRAWS, n_permutations=20, measures=MEASURES, representation={"transfer": given}
    )
    assert findings.transfer.to_dict("records") == given.to_dict("records")
    (paragraph,) = [part for part in findings.paragraphs if part.topic == "transfer"]
    assert (paragraph.dataset, paragraph.prompt) == (None, None)
    assert "on b, that of a 0.25 [0.10, 0.40] (p = 0.50)" in paragraph.text.lower()


def test_an_unknown_table_is_refused(probed):
    with pytest.raises(ValueError, match=r"representation parameter of find must map some of controls, .* Got 'lense'"):
        made(probed, lense=pd.DataFrame())


def curves(models):
    rows = [
        {
            "model": model,
            "dataset": "made",
            "prompt": "two_shot",
            "site": "resid_post",
            "position": "last",
            "layer": layer,
        }
        | {"rsa": 0.1, "null_mean": 0.0, "null_sd": 0.05, "p_max": 0.2, "best": layer == 0, "n": 20, "n_pairs": 190}
        | {"human": "hellinger"}
        for model in models
        for layer in range(3)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("models", "names"), [(1, ["similarity"]), (2, ["similarity.m0", "similarity.m1"]), (5, [])])
def test_curves_by_layer_are_drawn_for_a_few_models(probed, models, names):
    findings = made(probed, rsa=curves([f"m{number}" for number in range(models)]))
    drawn = [
        name for name, *_ in representation_figures(findings, ("made", "two_shot")) if name.startswith("similarity")
    ]
    assert drawn == names


def test_a_matrix_needs_two_runs(probed):
    row = {"train": "a", "test": "a", "target": TARGET, "score": 0.3, "score_name": "pearson", "ci_low": 0.1}
    table = pd.DataFrame([row | {"ci_high": 0.4, "p": 0.2}])
    assert list(across_figures(made(probed, transfer=table))) == []
    four = pd.concat([table.assign(train=a, test=b) for a in "ab" for b in "ab"], ignore_index=True)
    ((name, topic, _, _),) = across_figures(made(probed, transfer=four))
    assert (name, topic) == (f"transfer.{TARGET}", "transfer")
