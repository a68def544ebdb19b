"""The figures of the probes in a study: that of human entropy once for all scorings; told and drawn."""

import numpy as np
import pandas as pd

from doubtlens.analysis.findings import NEEDED, find
from doubtlens.analysis.gallery import DRAWN_FIGURES
from doubtlens.analysis.tuning_figures import tuning_differences

# The fewer measures, the sooner it is done.
KEPT = [
    *NEEDED, "model", "dataset", "prompt", "setting", "scoring", "nucleus", "correct", "choice_entropy_normalized",
    "probe_human_entropy_normalized", "probe_correct",
]  # fmt: skip


def test_the_probes_of_a_pair_are_compared_told_and_drawn(make_signals):
    rng, parts = np.random.default_rng(0), []
    for model, noise in (("model-a", 0.1), ("model-a-it", 0.6)):
        table = make_signals(n=60, model=model, scorings=("label_single", "label_variants"))
        human = table["human_entropy_normalized"].to_numpy()
        table["probe_human_entropy_normalized"] = human + np.tile(noise * rng.standard_normal(60), 2)
        table["probe_correct"] = np.clip(0.5 + 0.2 * table["correct"] + 0.2 * rng.standard_normal(120), 0.01, 0.99)
        parts.append(table)
    signals = pd.concat(parts, ignore_index=True)[KEPT]
    findings = find(signals, seed=0, n_bootstrap=40, n_permutations=2, pairs=[("model-a", "model-a-it")])

    rows = findings.tuning[findings.tuning["figure"].str.startswith("probe_")]
    assert sorted(zip(rows["figure"], rows["scoring"], strict=True)) == [
        ("probe_auroc", "label_single"),
        ("probe_auroc", "label_variants"),
        ("probe_pearson", "any"),
        ("probe_spearman", "any"),
    ]
    assert rows["measure"].isna().all()
    worse = rows.set_index("figure").loc["probe_pearson"]
    assert worse["difference"] < -0.2
    assert worse["better"] == "base"
    assert worse["p_holm"] < 0.05

    (told,) = [paragraph.text for paragraph in findings.paragraphs if paragraph.title.startswith("Effect of instruct")]
    assert told.count("Pearson correlation of the probe's prediction with human entropy falls, which is worse") == 1
    assert "AUROC of the probe's prediction for right answers" in told

    drawn = findings.tuning[findings.tuning["figure"].isin(DRAWN_FIGURES) & (findings.tuning["scoring"] == "any")]
    figure = tuning_differences(drawn)[0].figure
    words = " ".join(
        text.get_text().replace("\n", " ")
        for ax in figure.axes
        for text in (*ax.texts, ax.title, ax.xaxis.label, ax.yaxis.label, *ax.get_yticklabels())
    )
    assert "of the probe with human entropy" in words
