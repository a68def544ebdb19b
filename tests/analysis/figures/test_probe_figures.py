import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection

from doubtlens.analysis import figures


def lines_of(ax):
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


def test_controls_stand_below_the_probe_and_those_it_does_not_beat_are_marked(tables):
    table = tables.probe_controls(models=("base",)).assign(as_good=[False, True, False, True])
    scores, differences = figures.control_scores(table)
    found = {name: line.get_ydata().tolist() for name, line in lines_of(scores).items()}
    assert found == {"probe, out of fold": [0], "control": [2], "control, not beaten by the probe": [1, 3]}
    beaten = lines_of(differences)["control"].get_xdata()
    assert beaten.tolist() == table["difference"][[2]].tolist()
    named = ["probe", "options and length", "words of the question", "all output measures"]
    assert [label.get_text() for label in scores.get_yticklabels()] == named
    assert scores.get_xlabel() == "Pearson r, human entropy"
    both = figures.control_scores(tables.probe_controls())[0]
    assert both.get_yticklabels()[4].get_text() == "tuned · probe"


def test_an_auroc_has_chance_at_a_half(tables):
    table = tables.probe_controls(models=("base",)).assign(score_name="auroc", target="correct")
    scores, differences = figures.control_scores(table)
    assert scores.lines[0].get_xdata()[0] == 0.5
    assert differences.lines[0].get_xdata()[0] == 0.0
    assert scores.get_xlabel() == "AUROC, correctness"
    mixed = pd.concat([table, tables.probe_controls(models=("tuned",))])
    with pytest.raises(ValueError, match=r"must have scores of one scale in a panel. Got auroc and pearson instead"):
        figures.control_scores(mixed)


def test_learning_curves_have_a_panel_per_target_and_a_colour_per_model(tables):
    table = tables.learning()
    panels = figures.learning_curves(table.sample(frac=1, random_state=0))
    assert len(panels) == 2
    labels = {ax.get_ylabel(): ax for ax in panels}
    ax = labels["AUROC, correctness"]
    part = table[(table["target"] == "correct") & (table["model"] == "tuned")]
    curve = lines_of(ax)["tuned"]
    assert curve.get_xdata().tolist() == [20, 40, 80, 160]
    assert curve.get_ydata().tolist() == part["score"].tolist()
    assert ax.get_xscale() == "log"
    assert [text.get_text() for text in ax.get_xticklabels()] == ["20", "40", "80", "160"]
    bands = [part.get_paths()[0].vertices[:, 1] for part in ax.collections if isinstance(part, PolyCollection)]
    assert any(np.isclose(heights.min(), part["ci_low"].min()) for heights in bands)
    colours = {ax: lines_of(ax)["tuned"].get_color() for ax in panels}
    assert len(set(colours.values())) == 1


def test_close_sizes_share_a_tick_and_too_many_curves_are_refused(tables):
    table = tables.learning(models=("base",)).query("target == 'correct'").assign(n_train=[100, 120, 160, 190])
    (ax,) = figures.learning_curves(table)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["120", "190"]
    many = tables.learning(models=[f"m{number}" for number in range(9)])
    with pytest.raises(ValueError, match=r"at most 8 curves, one per colour. Got 9 instead"):
        figures.learning_curves(many)
