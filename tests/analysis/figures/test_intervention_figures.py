import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection

from doubtlens.analysis import figures


def heights(band: PolyCollection) -> tuple[float, float]:
    drawn = band.get_paths()[0].vertices[:, 1]
    return drawn.min(), drawn.max()


def test_each_figure_has_its_panel_with_probe_band_and_random_lines(tables):
    responses = tables.responses()
    panels = figures.dose_response_curves(responses.sample(frac=1, random_state=0).sort_values("figure", kind="stable"))
    assert [ax.get_ylabel() for ax in panels] == [
        "Change of accuracy (points)",
        "Share of changed choices (%)",
        "Change of choice entropy (nats)",
        "Change of total entropy (nats)",
    ]
    rows = responses[(responses["figure"] == "total_entropy") & (responses["mode"] == "add")]
    probe, random = (rows[rows["direction"] == name] for name in ("probe", "random"))
    ax = panels[3]
    (line,) = [line for line in ax.lines if line.get_label() == "probe"]
    doses = sorted([*probe["dose"], 0.0])
    assert line.get_xdata().tolist() == doses
    wanted = probe.set_index("dose")["change"].to_dict() | {0.0: 0.0}
    assert line.get_ydata().tolist() == pytest.approx([wanted[dose] for dose in doses])
    bands = {part.get_label(): part for part in ax.collections if isinstance(part, PolyCollection)}
    assert heights(bands["range of random directions"]) == pytest.approx(
        (random["change"].min(), random["change"].max())
    )
    assert heights(bands["probe, its interval"]) == pytest.approx((probe["ci_low"].min(), probe["ci_high"].max()))
    drawn = [line for line in ax.lines if len(line.get_xdata()) == len(doses) and line.get_linewidth() == 0.5]
    assert len(drawn) == random["draw"].nunique() == 20
    assert sorted(line.get_ydata()[0] for line in drawn) == pytest.approx(
        sorted(random.loc[random["dose"] == doses[0], "change"])
    )
    legend = [text.get_text() for text in ax.figure.legends[0].get_texts()]
    assert legend == ["each random direction", "probe", "range of random directions", "probe, its interval"]


def test_accuracy_is_in_points_and_removal_stands_beside_the_doses(tables):
    responses = tables.responses()
    ax = figures.dose_response_curves(responses[responses["figure"] == "accuracy"])[0]
    rows = responses[(responses["figure"] == "accuracy") & (responses["mode"] == "remove")]
    (square,) = [line for line in ax.lines if line.get_marker() == "s"]
    assert square.get_ydata()[0] == pytest.approx(100 * rows.loc[rows["direction"] == "probe", "change"].item())
    (ticks,) = [line for line in ax.lines if line.get_marker() == "_"]
    assert ticks.get_ydata() == pytest.approx(100 * rows.loc[rows["direction"] == "random", "change"].to_numpy())
    assert square.get_xdata()[0] > 4
    assert [label.get_text() for label in ax.get_xticklabels()] == ["−4", "−2", "0", "2", "4", "removed"]


def test_doses_alone_and_removal_alone(tables):
    responses = tables.responses()
    ax = figures.dose_response_curves(responses[responses["mode"] != "remove"])[0]
    assert "removed" not in [label.get_text() for label in ax.get_xticklabels()]
    ax = figures.dose_response_curves(responses[responses["mode"] != "add"])[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["removed"]
    alone = figures.dose_response_curves(responses[responses["direction"] != "random"])[0]
    assert "range of random directions" not in alone.get_legend_handles_labels()[1]


def test_curves_are_not_mixed(tables):
    responses = tables.responses()
    with pytest.raises(ValueError, match="Got several values of layer, probe instead; select one layer and probe"):
        figures.dose_response_curves(
            pd.concat([responses.assign(layer=1, probe="ridge"), responses.assign(layer=2, probe="mass_mean")])
        )
    figures.dose_response_curves(responses.assign(target=np.nan))
