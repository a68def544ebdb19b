import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from doubtlens.analysis import figures


def lines(ax):
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


def dots(ax):
    """Depths of the filled and of the hollow dots of all lines."""
    places = {True: [], False: []}
    for line in ax.lines:
        if line.get_linestyle() == "None" and line.get_label().startswith("_"):
            places[to_hex(line.get_markerfacecolor()) != "#ffffff"] += line.get_xdata().tolist()
    return places


def test_each_measure_is_a_line_with_its_interval_and_the_layers_that_stand_out_are_filled(tables):
    curve = tables.lens()
    ax = figures.lens_curves(curve.sample(frac=1, random_state=0))
    drawn = lines(ax)
    names = ["total_entropy_normalized", "choice_margin (−) [label_single]", "choice_margin (−) [label_variants]"]
    assert set(drawn) == {*names, "p against the best of all layers ≤ 0.05"}
    for measure, label in (("total_entropy_normalized", names[0]), ("choice_margin", names[1])):
        part = curve[(curve["measure"] == measure) & (curve["scoring"] == "label_single")]
        assert drawn[label].get_xdata().tolist() == part["layer"].tolist()
        assert drawn[label].get_ydata().tolist() == pytest.approx(part["human_spearman"].tolist())
    bands = [band.get_paths()[0].vertices[:, 1] for band in ax.collections]
    assert len(bands) == 3
    heights = sorted((band.min(), band.max()) for band in bands)
    assert heights == [pytest.approx((-0.5, 0.05))] * 2 + [pytest.approx((-0.05, 0.5))]
    assert dots(ax) == {True: [5.0] * 3, False: [0.0, 1.0, 2.0, 3.0, 4.0] * 3}
    assert ax.get_ylabel() == "Spearman correlation with human entropy"
    assert ax.lines[0].get_ydata() == [0.0, 0.0]


def test_errors_are_drawn_for_each_scoring_from_one_half(tables):
    ax = figures.lens_curves(tables.lens(), figure="correct_auroc")
    # Which answers are errors depends on the scoring; the direction is in the area.
    assert len(lines(ax)) == 5
    assert "choice_margin [label_single]" in lines(ax)
    assert ax.lines[0].get_ydata() == [0.5, 0.5]


def test_the_mean_has_no_interval_and_no_test(tables):
    ax = figures.lens_curves(tables.lens(), figure="mean")
    assert len(ax.collections) == 0
    assert dots(ax)[False] == []
    assert set(lines(ax)["total_entropy_normalized"].get_ydata()) == {0.5}


def test_a_prompt_without_scorings_and_a_layer_without_a_figure_are_drawn(tables):
    curve = tables.lens(measures=("total_entropy_normalized",))
    curve = curve[curve["scoring"] == "label_single"].assign(scoring=None, nucleus="inclusive")
    curve.loc[2, ["human_spearman", "human_spearman_ci_low", "human_spearman_ci_high", "p_max"]] = np.nan
    line = lines(figures.lens_curves(curve))["total_entropy_normalized"]
    assert np.flatnonzero(np.isnan(line.get_ydata())).tolist() == [2]


def test_runs_are_not_mixed_and_figures_are_known(tables):
    curve = tables.lens()
    with pytest.raises(ValueError, match=r"must have one row per line and layer. Got 2 .* select one model"):
        figures.lens_curves(pd.concat([curve.assign(model="a"), curve.assign(model="b")]))
    with pytest.raises(ValueError, match=r"figure parameter of lens_curves must be one of .* Got 'auroc'"):
        figures.lens_curves(curve, figure="auroc")
