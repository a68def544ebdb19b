import itertools
import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure

from doubtlens.analysis import figures
from doubtlens.analysis.figure_files import inline_svg, pdf_bytes, save_figure, svg_bytes
from doubtlens.analysis.figure_parts import new_axes, panel_grid, plain


def correlations(models=("base", "tuned"), measures=("total_entropy_normalized", "choice_probability")) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [{"model": model, "measure": measure} for model in models for measure in measures]
    values = rng.uniform(-0.4, 0.4, len(rows))
    return pd.DataFrame(rows).assign(correlation=values, ci_low=values - 0.1, ci_high=values + 0.1, method="spearman")


def controls() -> pd.DataFrame:
    numbers = {"raw": 0.7, "normalized": -0.1, "partial": 0.05}
    columns = {f"{name}{end}": value + shift for name, value in numbers.items() for end, shift in
               (("", 0), ("_ci_low", -0.1), ("_ci_high", 0.1))}  # fmt: skip
    return pd.DataFrame([{"measure": "choice_entropy", **columns}, {"measure": "total_entropy", **columns}])


def bins() -> pd.DataFrame:
    lower = np.linspace(0, 0.9, 10)
    n = np.array([0, 0, 12, 30, 20, 9, 4, 1, 0, 2])
    return pd.DataFrame(
        {
            "lower": lower,
            "upper": lower + 0.1,
            "n": n,
            "confidence": np.where(n > 0, lower + 0.04, np.nan),
            "accuracy": np.where(n > 0, lower * 0.8, np.nan),
        }
    )


def positions() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "position": [0, 1, 2, 3],
            "label": list("ABCD"),
            "chosen": [0.1, 0.0, 0.9, 0.0],
            "answers": [0.3, 0.2, 0.2, 0.3],
            "humans": [0.25, 0.25, 0.2, 0.3],
            "expected": [0.25] * 4,
        }
    )


def subjects() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "subject": ["music", "music", "history", "history"],
            "model": ["base", "tuned", "base", "tuned"],
            "n": [10, 10, 30, 30],
            "spearman": [-0.2, np.nan, 0.5, -0.001],
        }
    )


# The numbers on the page are those of the table.


def test_bars_have_the_lengths_of_the_correlations_and_whiskers_their_intervals():
    table = correlations()
    ax = figures.correlation_bars(table)
    for number, (_, part) in enumerate(table.groupby("model", sort=False)):
        assert [bar.get_width() for bar in ax.containers[number]] == pytest.approx(part["correlation"].tolist())
    drawn = [path for part in ax.collections if isinstance(part, LineCollection) for path in part.get_segments()]
    ends = sorted((segment[0][0], segment[1][0]) for segment in drawn)
    assert np.array(ends) == pytest.approx(np.array(sorted(zip(table["ci_low"], table["ci_high"], strict=True))))
    vertical = {round(float(line.get_xdata()[0]), 6) for line in ax.lines}
    assert {-0.5, -0.3, 0.3, 0.5} <= vertical
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "total_entropy_normalized",
        "choice_probability (−)",
    ]
    assert ax.get_xlabel() == "Spearman correlation with human entropy"


def test_bars_of_one_model_over_scorings_name_the_scoring():
    table = correlations(models=("base",), measures=("choice_margin", "choice_margin"))
    ax = figures.correlation_bars(table.assign(scoring=["label_single", "label_variants"]))
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "choice_margin (−) [label_single]",
        "choice_margin (−) [label_variants]",
    ]


def test_thirty_models_and_seventeen_measures_get_room():
    models = [f"organisation/model-{number}-8B-Instruct" for number in range(30)]
    table = correlations(models=models, measures=[f"measure_{number}" for number in range(17)])
    panels = figures.correlation_panels(table)
    assert len(panels) == 17
    figure = panels[0].figure
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in panels[0].get_yticklabels()]
    assert len(boxes) == 30
    overlaps = [one.overlaps(two) for one, two in itertools.pairwise(boxes)]
    assert not any(overlaps)
    for number, ax in enumerate(panels):
        part = table[table["measure"] == f"measure_{number}"]
        assert [bar.get_width() for bar in ax.containers[0]] == pytest.approx(part["correlation"].tolist())


def test_control_dots_stand_at_their_numbers():
    table = controls()
    ax = figures.control_dots(table)
    dots = [line for line in ax.lines if line.get_marker() != "None"]
    for line, name in zip(dots, ("raw", "normalized", "partial"), strict=True):
        assert list(line.get_xdata()) == pytest.approx(table[name].tolist())
        # Each row of the table keeps to its own line of the figure.
        assert np.round(line.get_ydata()).tolist() == [0, 1]


def test_the_layer_curve_draws_score_interval_best_layer_and_measure(make_layers):
    layers = make_layers()
    measure = {"measure_label": "varentropy", "measure_score": 0.25, "measure_ci_low": 0.1, "measure_ci_high": 0.33}
    ax = figures.layer_curve(layers.sample(frac=1, random_state=0), best_measure=measure)
    lines = {line.get_label(): line for line in ax.lines}
    curve = lines["probe, out of fold"]
    assert curve.get_xdata().tolist() == layers["layer"].tolist()
    assert curve.get_ydata().tolist() == pytest.approx(layers["pearson"].tolist())
    assert (lines["best layer"].get_xdata().item(), lines["best layer"].get_ydata().item()) == (3, 0.4)
    assert set(lines["varentropy"].get_ydata()) == {0.25}
    band = next(part for part in ax.collections if isinstance(part, PolyCollection))
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((layers["ci_low"].min(), layers["ci_high"].max()))
    # The null is one of R², and is not drawn on the scale of Pearson r.
    assert "shuffled targets (mean ± 1.96 sd)" not in ax.get_legend_handles_labels()[1]
    assert ax.get_ylabel() == "Pearson r, human entropy"


@pytest.mark.parametrize(("target", "score"), [("human_entropy_normalized", "r2"), ("correct", None)])
def test_the_null_is_drawn_with_the_score_it_belongs_to(make_layers, target, score):
    layers = make_layers(target=target)
    ax = figures.layer_curve(layers, score=score)
    bands = {part.get_label(): part for part in ax.collections}
    heights = bands["shuffled targets (mean ± 1.96 sd)"].get_paths()[0].vertices[:, 1]
    centre = layers["null_mean"].iloc[0]
    assert (heights.min(), heights.max()) == pytest.approx((centre - 1.96 * 0.03, centre + 1.96 * 0.03))
    assert ("its 95% interval, layer by layer" in bands) == (score is None)


def test_reliability_bars_stand_at_accuracy_and_dots_at_confidence():
    table = bins()
    filled = table[table["n"] > 0]
    ax = figures.reliability_diagram(table)
    assert [bar.get_height() for bar in ax.patches] == pytest.approx(filled["accuracy"].tolist())
    dots = next(line for line in ax.lines if line.get_marker() == "o")
    assert list(dots.get_xdata()) == pytest.approx(filled["confidence"].tolist())
    assert [text.get_text() for text in ax.texts][: len(filled)] == [str(n) for n in filled["n"]]


def test_the_heatmap_holds_the_numbers_and_hatches_what_is_not_defined():
    ax = figures.subject_heatmap(subjects())
    mesh = ax.collections[0].get_array().reshape(2, 2)
    # The subject with most items comes first.
    assert [label.get_text() for label in ax.get_yticklabels()] == ["history (30)", "music (10)"]
    assert mesh[0].tolist() == pytest.approx([0.5, -0.001])
    assert mesh.mask.tolist() == [[False, False], [False, True]]
    assert [text.get_text() for text in ax.texts] == ["0.50", "0.00", "−0.20"]
    assert [patch.get_hatch() for patch in ax.patches] == ["////"]


def test_position_bars_are_percentages_and_unknown_series_are_left_out():
    ax = figures.position_bars(positions())
    assert [bar.get_height() for bar in ax.containers[0]] == pytest.approx([10, 0, 90, 0])
    assert [bar.get_height() for bar in ax.containers[1]] == pytest.approx([30, 20, 20, 30])
    without = figures.position_bars(positions().assign(answers=np.nan))
    assert "right answers" not in without.get_legend_handles_labels()[1]
    assert len(without.containers) == 2


# Every figure: own figure or given Axes, no global state, files, text.

DRAWN = {
    "correlation_bars": lambda ax, layers: figures.correlation_bars(correlations(), ax=ax),
    "control_dots": lambda ax, layers: figures.control_dots(controls(), ax=ax),
    "layer_curve": lambda ax, layers: figures.layer_curve(layers, ax=ax),
    "reliability_diagram": lambda ax, layers: figures.reliability_diagram(bins(), ax=ax),
    "subject_heatmap": lambda ax, layers: figures.subject_heatmap(subjects(), ax=ax),
    "position_bars": lambda ax, layers: figures.position_bars(positions(), ax=ax),
}


@pytest.mark.parametrize("name", DRAWN)
def test_axes_are_taken_and_returned_and_nothing_global_changes(name, make_layers):
    before = dict(mpl.rcParams)
    figure = Figure()
    ax = figure.add_subplot()
    assert DRAWN[name](ax, make_layers()) is ax
    own = DRAWN[name](None, make_layers())
    assert own.figure is not figure
    assert own.get_xlabel() or name in ("subject_heatmap", "position_bars")
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("name", DRAWN)
def test_the_same_table_gives_the_same_bytes(name, make_layers, tmp_path):
    first, second = (DRAWN[name](None, make_layers()).figure for _ in range(2))
    assert svg_bytes(first) == svg_bytes(second)
    assert pdf_bytes(first) == pdf_bytes(second)
    svg, pdf = save_figure(first, tmp_path / f"a.{name}")
    assert (svg.name, pdf.name) == (f"a.{name}.svg", f"a.{name}.pdf")
    assert svg.read_bytes() == svg_bytes(second)
    assert b"<image" not in svg.read_bytes()
    assert b"dc:date" not in svg.read_bytes()
    assert pdf.read_bytes().startswith(b"%PDF")
    assert b"CreationDate" not in pdf.read_bytes()


@pytest.mark.parametrize(
    "name", ["</text><script>alert(1)</script>", "$\\frac{a}{b", "a$b$c", "an\x00odd\nname", "模型"]
)
def test_any_name_can_be_drawn_and_stays_text(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = svg_bytes(figures.correlation_bars(correlations(models=(name, "other"))).figure)
    assert b"<script" not in svg
    inline = inline_svg(svg, prefix="figure-1", label=f"about {name!r}")
    assert "<script" not in inline
    for line in name.split("\x00")[0].split("\n")[0].split("$")[:1]:
        assert line.replace("<", "&lt;").replace(">", "&gt;") in inline


def test_long_names_are_cut_and_dollars_are_no_mathematics():
    assert plain("x" * 100) == "x" * 59 + "…"
    assert plain("a$b") == r"a\$b"


def test_an_inline_figure_has_ids_of_its_own_and_refers_to_nothing_else():
    svg = svg_bytes(new_axes(2, 2).figure)
    first, second = (inline_svg(svg, prefix=prefix, label="empty") for prefix in ("figure-1", "figure-2"))
    ids = [{part.split('"')[0] for part in text.split(' id="')[1:]} for text in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert "http" not in first
    assert "<style" not in first
    assert 'role="img" aria-label="empty"' in first


# Bad input.


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: figures.correlation_bars(correlations().drop(columns="ci_low")), "missing: ci_low"),
        (lambda: figures.correlation_bars(correlations().iloc[:0]), "at least one row"),
        (lambda: figures.correlation_bars(pd.concat([correlations()] * 2)), "one row per model and measure"),
        (lambda: figures.subject_heatmap(pd.concat([subjects()] * 2)), "one row per subject and model"),
        (lambda: inline_svg(b"<svg/>", prefix="1", label=""), "a letter followed by letters"),
    ],
)
def test_bad_tables_are_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_curves_are_not_mixed(make_layers):
    with pytest.raises(ValueError, match="Got a layer twice"):
        figures.layer_curve(pd.concat([make_layers(), make_layers(model="model-b")]))


def test_panels_that_share_an_axis_cut_no_bar_off():
    panels = panel_grid(2, columns=2, width=3, height=2, sharey=True)
    figures.position_bars(positions(), ax=panels[0])
    figures.position_bars(positions().assign(chosen=0.25), ax=panels[1])
    assert panels[1].get_ylim()[0] == 0
    assert panels[1].get_ylim()[1] > 90
