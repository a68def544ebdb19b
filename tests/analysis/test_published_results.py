"""Figures of published results (arXiv 2605.30675), recomputed from the authors' own table where it is at hand.

The table is looked for at ../shared/reference, beside the repository; the tests are skipped by name where it is absent.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from doubtlens.analysis import agreement, alignment, calibration

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "reference" / "coane_five_pairs.parquet"
pytestmark = pytest.mark.skipif(not REFERENCE.exists(), reason="../shared/reference/coane_five_pairs.parquet is absent")

MEASURES = ["mc_choice-ent", "mc_total-ent", "mc_top-k-ent-10", "mc_top-p-len-0.95", "mc_top-p-ent-0.9"]
PUBLISHED = {
    "Falcon3_1B": (65.1, 0.391, 0.388, 0.390, 0.382, 0.375),
    "Falcon3_1B_Ins": (57.2, 0.144, -0.181, -0.132, -0.212, -0.061),
    "Gemma2_2B": (76.5, 0.326, 0.311, 0.313, 0.292, 0.259),
    "Gemma2_2B_Ins": (80.5, 0.281, 0.283, 0.277, 0.295, 0.259),
    "Llama_3.1_8B": (88.1, 0.377, 0.376, 0.376, 0.319, 0.301),
    "Llama_3.1_8B_Ins": (88.8, 0.282, 0.215, 0.236, 0.206, 0.220),
    "Llama_3.2_3B": (81.9, 0.309, 0.308, 0.309, 0.336, 0.258),
    "Llama_3.2_3B_Ins": (82.9, 0.293, 0.239, 0.298, 0.057, 0.304),
    "Mistral_0.3": (86.5, 0.333, 0.335, 0.329, 0.282, 0.274),
    "Mistral_0.3_Ins": (83.8, 0.177, 0.153, 0.152, 0.112, 0.190),
}


@pytest.fixture(scope="module")
def table():
    frame = pd.read_parquet(REFERENCE).rename(columns={"row": "item"})
    return frame.assign(
        correct=(frame["cloze_pred"] == frame["Correct_Answer"]).astype(float),
        responses=frame["human_answer_ratios"].map(json.loads),
        choice_log_probabilities=frame["mc_choice-pdf"].map(json.loads),
        n_options=4,
    )


def test_accuracy_and_spearman_to_the_printed_digits(table):
    rng = np.random.default_rng(0)
    aligned = alignment(table, MEASURES, human="human-ent", rng=rng, n_bootstrap=20)
    directions = dict.fromkeys(MEASURES, +1)
    correct = calibration(table, MEASURES[:1], directions=directions, rng=rng, n_bootstrap=20)
    wide = aligned.pivot(index="model", columns="measure", values="correlation")
    accuracy = correct.set_index("model")["accuracy"]
    assert set(wide.index) == set(PUBLISHED)
    for model, figures in PUBLISHED.items():
        assert round(100 * accuracy[model], 1) == figures[0]
        assert tuple(wide.loc[model, MEASURES].round(3)) == figures[1:]
    assert (aligned["note"] == "n_options does not vary, so that the partial correlation is the correlation").all()


def test_kendall_distance_of_pairs_lies_below_that_of_permutations(table):
    # Over the 30 published models: 0.25 to 0.40 by pairs, 0.39 to 0.51 by argsort permutations.
    pairs = agreement(table)["kendall_distance"]
    permutations = agreement(table, convention="argsort")["kendall_distance"]
    assert pairs.between(0.25, 0.40).all()
    assert permutations.round(2).between(0.39, 0.51).all()
    assert (permutations > pairs).all()


def test_top_answers_agree_far_beyond_chance(table):
    result = agreement(table)
    assert (result["p_poisson_binomial"] < 1e-20).all()
    assert (result["p_poisson_binomial"] > 0).all()
    assert (result["chance"] >= 0.25).all()
    assert (result["chance_published"] == 0.25).all()
