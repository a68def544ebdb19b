import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from doubtlens.analysis import figures


def lines_of(ax):
    return {line.get_label(): line for line in ax.lines}


def test_every_panel_draws_its_columns_in_the_order_of_layers(tables):
    table = tables.two_targets()
    cosine, scores, variance = figures.two_target_curves(table.sample(frac=1, random_state=0))
    layer = table["layer"].tolist()
    hollow, filled = (lines_of(cosine)[name] for name in ("cosine, from separate halves", "p max ≤ 0.05"))
    assert filled.get_xdata().tolist() == [2, 3]
    assert hollow.get_xdata().tolist() == [0, 1, 4, 5]
    assert filled.get_ydata().tolist() == pytest.approx(table["cosine"].iloc[[2, 3]].tolist())
    band = next(part for part in cosine.collections if part.get_label() == "permuted (mean ± 1.96 sd)")
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((0.02 - 1.96 * 0.1, 0.02 + 1.96 * 0.1))
    assert set(lines_of(cosine)["correlation of the targets"].get_ydata()) == {-0.3}
    own, crossed = (lines_of(scores)[f"human entropy probe, {what}"] for what in ("own target", "for errors"))
    assert own.get_xdata().tolist() == layer
    assert own.get_ydata().tolist() == pytest.approx(table["first_score"].tolist())
    # An AUROC stands as its distance from chance.
    assert crossed.get_ydata().tolist() == pytest.approx((2 * table["first_on_second"] - 1).tolist())
    back = lines_of(scores)["correctness probe, for human entropy"]
    assert back.get_ydata().tolist() == pytest.approx(table["second_on_first"].tolist())
    assert scores.get_ylabel() == "Pearson r or 2 AUROC − 1"
    shared = lines_of(variance)["correctness, shared"]
    assert shared.get_ydata().tolist() == pytest.approx(table["second_shared"].tolist())
    assert shared.get_linestyle() == "--"
    assert to_hex(shared.get_color()) != to_hex(lines_of(variance)["human entropy, shared"].get_color())


def test_layers_without_a_cosine_leave_gaps(tables):
    table = tables.two_targets()
    gone = ["cosine", "cosine_null_mean", "cosine_null_sd", "cosine_p_max", "cosine_disattenuated"]
    table.loc[0, gone] = np.nan
    table["cosine_disattenuated"] = np.nan
    ax = figures.two_target_curves(table)[0]
    assert np.isnan(lines_of(ax)["cosine, from separate halves"].get_ydata()[0])


def test_it_draws_on_three_axes(tables):
    axes = Figure(figsize=(12, 4)).subplots(1, 3)
    assert figures.two_target_curves(tables.two_targets(), axes=axes) == list(axes)
    with pytest.raises(ValueError, match=r"must be 3 Axes\. Got 2 instead"):
        figures.two_target_curves(tables.two_targets(), axes=axes[:2])


def test_two_pairs_of_targets_are_not_mixed(tables):
    table = tables.two_targets()
    with pytest.raises(ValueError, match=r"must have one row per layer\. Got 2 for layer"):
        figures.two_target_curves(pd.concat([table, table.assign(second="human_correct")]))
