"""What the figures of transfer and of similarity show, read back from the Axes."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle

from doubtlens.analysis import figures


def texts(ax):
    """The texts of each cell, by its column and row, from above."""
    cells = {}
    for text in sorted(ax.texts, key=lambda text: text.get_position()[1]):
        column, row = text.get_position()
        cells.setdefault((int(column), int(row)), []).append(text)
    return cells


def test_the_matrix_holds_scores_and_intervals(tables):
    table = tables.transfer().sample(frac=1, random_state=1)
    ax = figures.transfer_heatmap(table)
    trains, tests = ([label.get_text() for label in labels] for labels in (ax.get_yticklabels(), ax.get_xticklabels()))
    assert set(trains) == set(tests) == set(table["train"])
    found = texts(ax)
    assert len(found) == 9
    for row in table.to_dict("records"):
        score, interval = found[tests.index(row["test"]), trains.index(row["train"])]
        assert score.get_text() == f"{row['score']:.2f}".replace("-", "−")
        assert interval.get_text().startswith("[")
        apart = row["ci_low"] > 0 or row["ci_high"] < 0
        assert (score.get_fontweight() == "bold") == apart
    framed = [patch for patch in ax.patches if isinstance(patch, Rectangle) and patch.get_linewidth() == 1.2]
    assert {(patch.get_x(), patch.get_y()) for patch in framed} == {
        (tests.index(name), trains.index(name)) for name in trains
    }
    assert [ax.get_xlabel(), ax.get_ylabel()] == ["Tested on", "Trained on"]
    assert ax.figure.axes[1].get_ylabel() == "Pearson r, human entropy"


def test_chance_of_an_auroc_is_one_half(tables):
    ax = figures.transfer_heatmap(tables.transfer(score_name="auroc"))
    bold = {text.get_text() for text in ax.texts if text.get_fontweight() == "bold"}
    assert bold == {"0.90", "0.70", "0.75", "1.00", "0.30", "0.65"}
    assert ax.figure.axes[1].get_ylabel().startswith("AUROC")


def test_missing_scores_and_pairs_are_hatched(tables):
    table = tables.transfer()
    table.loc[1, ["score", "ci_low", "ci_high"]] = np.nan
    ax = figures.transfer_heatmap(table.drop(index=5))
    hatched = [patch for patch in ax.patches if patch.get_hatch()]
    assert {(patch.get_x(), patch.get_y()) for patch in hatched} == {(1, 0), (2, 1)}
    assert len(texts(ax)) == 7


def test_matrices_are_not_mixed(tables):
    table = tables.transfer()
    with pytest.raises(ValueError, match=r"must hold one matrix. Got several values of target instead"):
        figures.transfer_heatmap(pd.concat([table, table.assign(target="correct")]))


def test_the_layers_of_two_models(tables):
    table = tables.geometry()
    panels = figures.cka_curves(table.sample(frac=1, random_state=2))
    assert len(panels) == 3
    lines = {line.get_label(): line for line in panels[0].lines}
    assert lines["debiased CKA"].get_xdata().tolist() == list(range(6))
    assert lines["debiased CKA"].get_ydata().tolist() == pytest.approx([0.95 - 0.05 * layer for layer in range(6)])
    assert lines["of standardised features"].get_ydata()[0] == 0.8
    bands = {part.get_label(): part.get_paths()[0].vertices[:, 1] for part in panels[0].collections}
    assert bands["its 95% interval"].max() == pytest.approx(0.97)
    assert bands["items permuted (± 1.96 sd)"].max() == pytest.approx(0.02 + 1.96 * 0.01)
    by_target = {ax.get_ylabel(): ax for ax in panels[1:]}
    assert sorted(by_target) == ["Cosine, correctness", "Cosine, human entropy"]
    lines = {line.get_label(): line for line in by_target["Cosine, human entropy"].lines}
    assert lines["directions from different halves"].get_ydata().tolist() == pytest.approx([0.1 * n for n in range(6)])
    assert lines["were they the same"].get_ydata().tolist() == pytest.approx([0.4] * 6)
    assert lines["p < 0.05 over all layers"].get_xdata().tolist() == [4, 5]
    assert panels[-1].get_xlabel() == "Layer"
    assert panels[0].get_xlabel() == ""


def test_without_cosines_there_is_one_panel(tables):
    table = tables.geometry(targets=(None,))
    assert len(figures.cka_curves(table.drop(columns=[name for name in table if "cosine" in name]))) == 1
    wide = tables.geometry().assign(cosine=np.nan)
    assert len(figures.cka_curves(wide)) == 1
    with pytest.raises(ValueError, match="missing: cosine_null_sd"):
        figures.cka_curves(tables.geometry().drop(columns="cosine_null_sd"))


def test_the_curve_of_similarity(tables):
    table = tables.similarity()
    ax = figures.rsa_curve(table.sample(frac=1, random_state=3))
    lines = {line.get_label(): line for line in ax.lines}
    assert lines["activations and people's profiles"].get_ydata().tolist() == table["rsa"].tolist()
    assert lines["p < 0.05 over all layers"].get_xdata().tolist() == [4, 6]
    assert ax.get_xlabel() == "Layer"
