"""What holds for every figure: its own figure or given Axes, no global state, stable bytes, any name, refusals."""

import inspect
import itertools
import re
import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from doubtlens.analysis import figures
from doubtlens.analysis.figure_files import inline_svg, pdf_bytes, save_figure, svg_bytes
from doubtlens.analysis.figure_parts import fold, new_axes, p_text, panel_grid, plain

# The table that each figure draws; the parameter it is for is the first of the function.
TABLES = {
    "behaviour_dots": lambda tables, layers: tables.comparison(),
    "calibration_heatmap": lambda tables, layers: tables.figures_of(),
    "cka_curves": lambda tables, layers: tables.geometry(),
    "control_dots": lambda tables, layers: tables.controls(),
    "control_scores": lambda tables, layers: tables.probe_controls(),
    "correlation_bars": lambda tables, layers: tables.figures_of(),
    "correlation_heatmap": lambda tables, layers: tables.figures_of(),
    "correlation_panels": lambda tables, layers: tables.figures_of(),
    "dose_response_curves": lambda tables, layers: tables.responses(),
    "layer_curve": lambda tables, layers: layers,
    "learning_curves": lambda tables, layers: tables.learning(),
    "lens_curves": lambda tables, layers: tables.lens(),
    "permutation_histograms": lambda tables, layers: tables.null(),
    "position_bars": lambda tables, layers: tables.positions(),
    "reliability_diagram": lambda tables, layers: tables.bins(),
    "risk_coverage_curves": lambda tables, layers: tables.curves(),
    "rsa_curve": lambda tables, layers: tables.similarity(),
    "simultaneity_scatter": lambda tables, layers: tables.figures_of(),
    "subject_heatmap": lambda tables, layers: tables.subjects(),
    "transfer_heatmap": lambda tables, layers: tables.transfer(),
    "tuning_differences": lambda tables, layers: tables.effects(),
    "tuning_slopes": lambda tables, layers: tables.effects(),
    "two_target_curves": lambda tables, layers: tables.two_targets(),
}
PUBLIC = sorted(name for name, value in vars(figures).items() if inspect.isfunction(value))
ON_AXES = [name for name in TABLES if "ax" in inspect.signature(getattr(figures, name)).parameters]
# A column of numbers in each, for the figures that check them.
NUMBERS = {
    "behaviour_dots": "r_measure",
    "calibration_heatmap": "ece_rank",
    "cka_curves": "cka_ci_low",
    "control_dots": "raw",
    "control_scores": "score",
    "correlation_bars": "ci_low",
    "correlation_heatmap": "correlation",
    "correlation_panels": "ci_high",
    "lens_curves": "human_spearman",
    "learning_curves": "score",
    "dose_response_curves": "change",
    "permutation_histograms": "statistic",
    "risk_coverage_curves": "risk",
    "rsa_curve": "null_sd",
    "simultaneity_scatter": "auroc_ci_low",
    "subject_heatmap": "spearman",
    "transfer_heatmap": "score",
    "tuning_differences": "difference",
    "tuning_slopes": "base_value",
    "two_target_curves": "first_shared",
}


def figure_of(drawn: Axes | list[Axes]) -> Figure:
    return (drawn[0] if isinstance(drawn, list) else drawn).figure


@pytest.fixture
def table(request, tables, make_layers):
    return TABLES[request.getfixturevalue("name")](tables, make_layers())


def test_every_figure_is_here():
    assert sorted(TABLES) == PUBLIC


@pytest.mark.parametrize("name", ON_AXES)
def test_axes_are_taken_and_returned(name, table):
    figure = Figure()
    ax = figure.add_subplot()
    assert getattr(figures, name)(table, ax=ax) is ax
    assert getattr(figures, name)(table).figure is not figure


@pytest.mark.parametrize("name", TABLES)
def test_nothing_global_changes_nor_does_the_table(name, table):
    before, kept = dict(mpl.rcParams), table.copy()
    figure_of(getattr(figures, name)(table))
    assert dict(mpl.rcParams) == before
    pd.testing.assert_frame_equal(table, kept)
    assert "matplotlib.pyplot" not in inspect.getsource(inspect.getmodule(getattr(figures, name)))


@pytest.mark.parametrize("name", TABLES)
def test_the_same_table_gives_the_same_bytes_and_no_text_lies_on_another(name, table):
    first, second = (figure_of(getattr(figures, name)(table)) for _ in range(2))
    svg = svg_bytes(first)
    assert svg == svg_bytes(second)
    assert b"<image" not in svg
    assert b"dc:date" not in svg
    boxes = text_boxes(first)
    assert len(boxes) > 3
    assert [(one, two) for (one, a), (two, b) in itertools.combinations(boxes, 2) if a.overlaps(b)] == []


def text_boxes(figure: Figure) -> list:
    """The upright texts that are drawn, with the place that each takes."""
    figure.draw_without_rendering()
    outside = {
        label
        for ax in figure.axes
        for axis in (ax.xaxis, ax.yaxis)
        for tick in axis.get_major_ticks()
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
        for label in (tick.label1, tick.label2)
    }
    shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return [
        (text.get_text(), text.get_window_extent().padded(-1))
        for text in shown
        if text not in outside and text.get_rotation() in (0, 90)
    ]


def test_files_hold_the_figure_and_no_date(tables, tmp_path):
    figure = figures.correlation_bars(tables.figures_of()).figure
    svg, pdf = save_figure(figure, tmp_path / "a.b")
    assert (svg.name, pdf.name) == ("a.b.svg", "a.b.pdf")
    assert svg.read_bytes() == svg_bytes(figure)
    assert pdf.read_bytes() == pdf_bytes(figures.correlation_bars(tables.figures_of()).figure)
    assert pdf.read_bytes().startswith(b"%PDF")
    assert b"CreationDate" not in pdf.read_bytes()


UNNAMED = (
    "position_bars",
    "reliability_diagram",
    "layer_curve",
    "two_target_curves",
    "cka_curves",
    "rsa_curve",
    "dose_response_curves",
)
NAMED = [name for name in TABLES if name not in UNNAMED]


@pytest.mark.parametrize("name", NAMED)
def test_any_name_can_be_drawn_and_stays_text(name, table):
    key = next(key for key in ("model", "pair", "measure", "train") if key in table)
    odd = dict(
        zip(
            dict.fromkeys(table[key]),
            ["</text><script>$\\frac{a}{b\x00odd\nname模型", "_a$b$" + "x" * 90],
            strict=False,
        )
    )
    table = table.assign(**{key: table[key].replace(odd)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = svg_bytes(figure_of(getattr(figures, name)(table)))
    inline = inline_svg(svg, prefix="figure-1", label=f"about {odd}")
    assert "<script" not in inline
    # Names may be broken into lines.
    shown = re.sub("[\N{WORD JOINER} ]", "", "".join(re.findall(r">([^<>]+)</text>", inline)))
    assert "&lt;/text&gt;" in shown
    assert "frac{a}{b" in shown
    assert "_a$b$xxxx" in shown
    assert shown.count("x" * 20) < 5 * len(table)
    assert "x" * 61 not in shown


# Refusals.


@pytest.mark.parametrize("name", TABLES)
def test_a_column_that_is_missing_is_named(name, table):
    parameter = next(iter(inspect.signature(getattr(figures, name)).parameters))
    column = NUMBERS.get(
        name, {"position_bars": "chosen", "reliability_diagram": "n", "layer_curve": "ci_low"}.get(name)
    )
    with pytest.raises(ValueError, match=rf"The {parameter} parameter of {name} must have .*missing: {column}\."):
        getattr(figures, name)(table.drop(columns=column))


@pytest.mark.parametrize("name", TABLES)
def test_a_table_without_rows_or_no_table_is_refused(name, table):
    with pytest.raises(ValueError, match="must have at least one row"):
        getattr(figures, name)(table.iloc[:0])
    with pytest.raises(TypeError, match=r"must be a pandas\.DataFrame\. Got dict instead"):
        getattr(figures, name)(table.to_dict())


@pytest.mark.parametrize("name", [name for name in TABLES if name not in ("control_dots", "layer_curve")])
def test_two_rows_for_one_place_are_refused(name, table):
    with pytest.raises(ValueError, match=rf"of {name} must have one row per .* Got 2 for .*drop the repeated rows"):
        getattr(figures, name)(pd.concat([table, table.iloc[:1]]))
    parameter = next(iter(inspect.signature(getattr(figures, name)).parameters))
    twice = pd.concat([table.assign(dataset="one"), table.assign(dataset="two")])
    with pytest.raises(ValueError, match=rf"The {parameter} parameter of {name} .*select one dataset\."):
        getattr(figures, name)(twice)


@pytest.mark.parametrize("name", NUMBERS)
def test_text_and_infinities_are_refused(name, table):
    column = NUMBERS[name]
    with pytest.raises(ValueError, match=f"must have finite numbers in the column {column}. Got an infinity in row 0"):
        getattr(figures, name)(table.assign(**{column: table[column].where(table.index > 0, np.inf)}))
    with pytest.raises(ValueError, match=f"must have numbers in the column {column}"):
        getattr(figures, name)(table.assign(**{column: "high"}))


# Parts.


def test_long_names_are_cut_or_folded_and_dollars_are_no_mathematics():
    assert plain("x" * 100) == "x" * 59 + "…"
    assert plain("a$b") == r"a\$b"
    assert fold("top_p_entropy_0.95_normalized", 20) == "top_p_entropy_0.95_\nnormalized"
    assert fold("organisation/a-model of ours", 14) == "organisation/\na-model of\nours"
    assert fold("x" * 7 + "$", 4) == "xxxx\n" + r"xxx\$"


def test_p_values_keep_their_decimals():
    assert [p_text(p) for p in (0.0624, 1.0, 0.0009, np.nan)] == ["0.062", "1.000", "<0.001", "–"]
    assert p_text(0.0625, 4) == "0.0625"


def test_an_inline_figure_has_ids_of_its_own_and_refers_to_nothing_else():
    svg = svg_bytes(new_axes(2, 2).figure)
    first, second = (inline_svg(svg, prefix=prefix, label="empty") for prefix in ("figure-1", "figure-2"))
    ids = [{part.split('"')[0] for part in text.split(' id="')[1:]} for text in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert "http" not in first
    assert "<style" not in first
    assert 'role="img" aria-label="empty"' in first
    with pytest.raises(ValueError, match="a letter followed by letters"):
        inline_svg(b"<svg/>", prefix="1", label="")


def test_panels_that_share_an_axis_cut_no_bar_off(tables):
    panels = panel_grid(2, columns=2, width=3, height=2, sharey=True)
    figures.position_bars(tables.positions(), ax=panels[0])
    figures.position_bars(tables.positions().assign(chosen=0.25), ax=panels[1])
    assert panels[1].get_ylim()[0] == 0
    assert panels[1].get_ylim()[1] > 90
