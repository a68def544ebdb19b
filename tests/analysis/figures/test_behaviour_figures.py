import numpy as np
import pandas as pd
import pytest

from doubtlens.analysis import figures


def lines_of(ax):
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


def test_scores_stand_beside_each_other_and_differences_to_the_right(tables):
    table = tables.comparison(models=("base",), measures=tables.seventeen[:6])
    table["difference"] = [0.3, -0.3, 0.01, 0.2, -0.2, np.nan]
    table["difference_ci_low"], table["difference_ci_high"] = table["difference"] - 0.1, table["difference"] + 0.1
    scores, differences = figures.behaviour_dots(table)
    dots = lines_of(scores)
    forwards = table[~table["reversed"]]
    assert dots["probe, out of fold"].get_xdata().tolist() == table["r_probe"].tolist()
    assert dots["output measure"].get_xdata().tolist() == forwards["r_measure"].tolist()
    assert dots["... read against its direction"].get_xdata().tolist() == table["r_measure"][table["reversed"]].tolist()
    found = {name: line.get_ydata().tolist() for name, line in lines_of(differences).items()}
    assert found == {"the probe says more": [0, 3], "the measure says more": [1, 4], "not told apart": [2]}
    assert [label.get_text() for label in scores.get_yticklabels()] == tables.seventeen[:6]
    assert scores.get_xlabel() == "Pearson r, human entropy"
    assert scores.get_ylim() == differences.get_ylim()


def test_an_auroc_has_chance_at_a_half_and_rows_are_named_by_what_differs(tables):
    table = tables.comparison(measures=("choice_margin",)).assign(target="correct", method="auroc", reversed=False)
    scores, _ = figures.behaviour_dots(table)
    assert 0.5 in [line.get_xdata()[0] for line in scores.lines]
    assert scores.get_xlabel() == "AUROC, correctness"
    assert [label.get_text() for label in scores.get_yticklabels()] == ["base", "tuned"]
    assert "... read against its direction" not in lines_of(scores)


@pytest.mark.parametrize(("column", "value"), [("target", "correct"), ("method", "spearman")])
def test_what_cannot_share_a_scale_is_not_mixed(tables, column, value):
    table = tables.comparison()
    mixed = pd.concat([table, table.assign(model="third", **{column: value})])
    with pytest.raises(
        ValueError, match=f"comparison parameter of behaviour_dots must hold one {column}. Got .*select"
    ):
        figures.behaviour_dots(mixed)
