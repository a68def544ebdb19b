"""What a paper prints of each of our tables: known by their columns, with the figure that each is about."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from .curve import layer_score
from .latex_cells import is_text
from .report_columns import SHOWN
from .tables import GROUP_KEYS

# What tells rows apart or holds for all of them.
CONTEXT = (
    *GROUP_KEYS,
    "pair",
    "figure",
    "target",
    "site",
    "position",
    "probe",
    "human",
    "method",
    "score_name",
    "convention",
)
_WORDS = ("reason", "note", "flag", "interval")


@dataclass(frozen=True)
class Printed:
    """What a paper prints of one of our tables.

    Attributes:
        name: of the table; its title where `SHOWN` has none.
        known_by: columns that only this table has together.
        columns: the columns printed after the keys, as far as they are there; of "a|b" the first that is.
        main: the figure that `ci_low`, `ci_high` and `p` belong to.
    """

    name: str
    known_by: tuple[str, ...]
    columns: str
    main: str | None = None


# The first that fits is taken.
PRINTED = (
    Printed(
        "Alignment and calibration at once",
        ("aligned", "calibrated", "verdict"),
        "measure n_alignment n_calibration alignment alignment_p auroc calibration calibration_p verdict",
        "joint",
    ),
    Printed(
        "Measures aligned and calibrated at once",
        ("aligned_only", "calibrated_only"),
        "n both aligned_only calibrated_only neither reversed measure joint verdict",
        "joint",
    ),
    Printed(
        "Smallest effects that the study could have found",
        ("smallest_correlation", "smallest_auroc"),
        "n_human n_answers fewest_options most_options smallest_correlation smallest_correlation_corrected "
        "agreement_chance smallest_agreement accuracy_chance smallest_accuracy smallest_auroc",
        "smallest_correlation",
    ),
    Printed("controls", ("raw", "normalized", "flag"), "measure n raw normalized partial", "raw"),
    Printed("alignment", ("measure", "human", "correlation"), "measure n correlation p_holm|p partial", "correlation"),
    Printed(
        "uncertainty_agreement",
        ("agreement", "n_tied", "partial"),
        "measure n agreement spearman p_holm|p partial auroc",
        "spearman",
    ),
    Printed("calibration_by_subject", ("subject", "spearman"), "subject measure n accuracy spearman", "spearman"),
    Printed(
        "calibration",
        ("measure", "spearman", "auroc"),
        "measure n accuracy spearman p_holm|p auroc prr ece_width ece_rank brier",
        "spearman",
    ),
    Printed(
        "agreement",
        ("top_answer_agreement", "kendall_distance"),
        "n top_answer_agreement chance p_poisson_binomial kendall_distance kendall_random",
        "top_answer_agreement",
    ),
    Printed("overview", ("accuracy", "best_constant"), "n_answers|n accuracy chance p best_constant", "accuracy"),
    Printed(
        "curve",
        ("nested_score", "measure_score"),
        "best_layer best_score p_max nested_score nested_p measure measure_score",
        "nested_score",
    ),
    Printed("probe_controls", ("control", "as_good"), "control n_features score r2 difference p", "score"),
    Printed(
        "incremental",
        ("r2_both", "probe_over_measures"),
        "n r2_measures r2_probe r2_both probe_over_measures measures_over_probe",
        "probe_over_measures",
    ),
    Printed("transfer", ("train_model", "test_model", "n_shared"), "train test n_train n_test score r2 p", "score"),
    Printed("layers", ("layer", "null_mean", "nested_score"), "layer n r2 pearson auroc null_mean p p_max"),
    Printed(
        "datasets",
        ("options_human_entropy", "human_entropy_se"),
        "n n_human fewest_options most_options options_human_entropy options_human_entropy_normalized human_entropy_se",
    ),
    Printed(
        "Effect of instruct fine-tuning",
        ("base_value", "instruct_value", "difference"),
        "measure n base_value instruct_value difference p_holm|p smallest_difference",
        "difference",
    ),
    Printed(
        "Effect of instruct fine-tuning over pairs of models",
        ("n_pairs", "hodges_lehmann", "rank_biserial"),
        "measure n_pairs n_higher n_lower hodges_lehmann p_holm|p smallest_p rank_biserial",
        "hodges_lehmann",
    ),
    Printed(
        "The model's distribution beside people's",
        ("dist_ce", "rank_cs", "ent_ce"),
        "n dist_ce dist_ce_uniform rank_cs rank_cs_random ent_ce",
        "dist_ce",
    ),
    Printed(
        "Best reachable correlation with people",
        ("ceiling", "reliability", "n_counted"),
        "n_counted respondents correlation reliability ceiling",
        "ceiling",
    ),
    Printed(
        "Distance of the labels under high and low uncertainty",
        ("js_high", "js_low", "centred"),
        "measure n_high n_low js_high js_low statistic null_mean centred p_holm|p",
        "centred",
    ),
)


def recognised(table: pd.DataFrame) -> Printed | None:
    """Find out which of our tables this is, by its columns."""
    return next((kind for kind in PRINTED if set(kind.known_by) <= set(table.columns)), None)


def main_figure(table: pd.DataFrame, kind: Printed | None) -> str | None:
    """Name the figure that an interval without a name of its own belongs to."""
    if kind is not None:
        return layer_score(table) if kind.name == "layers" else kind.main
    names = list(table.columns)
    if "ci_low" not in names:
        return None
    before = [name for name in names[: names.index("ci_low")] if name not in ("se", "n") and not is_text(table[name])]
    return before[-1] if before else None


def printed_columns(table: pd.DataFrame, kind: Printed | None) -> list[str]:
    """List the columns printed after the keys; of a table that is not ours all but bounds, reasons and notes."""
    if kind is None:
        hidden = ("ci_low", "ci_high", *_WORDS)
        return [str(name) for name in table.columns if not str(name).endswith(hidden) and name not in CONTEXT]
    choices = [column.split("|") for column in kind.columns.split()]
    found = [next((name for name in names if name in table), None) for names in choices]
    # A column without a single value (AUROC, where no target is binary) says nothing.
    return [name for name in found if name is not None and (table[name].notna().any() or not len(table))]


def title(kind: Printed | None) -> str:
    """Title a table, as the report does where it has it; empty for a table that is not ours."""
    if kind is None:
        return ""
    return SHOWN[kind.name][0] if kind.name in SHOWN else kind.name
