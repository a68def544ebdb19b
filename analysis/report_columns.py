"""Which columns of each table of findings a report shows, under which title and note."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import representation_columns
from .overview import LETTERS
from .report_cells import Cell, Column, estimate, is_absent, probability, share, text, value
from .views import ANY
from .wording import number


def conventions(row: Mapping[str, Any]) -> Cell:
    """Name the scoring or the nucleus that a measure depends on."""
    named = [str(row[key]) for key in ("scoring", "nucleus") if not is_absent(row[key]) and row[key] != ANY]
    return Cell(", ".join(named) or ANY)


def _position(row: Mapping[str, Any]) -> Cell:
    return Cell(f"{LETTERS[int(row['top_position'])]} ({number(100 * row['top_share'], 1)})", float(row["top_share"]))


def _correlation(name: str, header: str) -> list[Column]:
    return [
        estimate(name, f"{header} [95%]", "ci_low", "ci_high"),
        probability("p", "p"),
        probability("p_holm", "p (Holm)"),
        probability("p_bh", "p (BH)"),
    ]


def _figure(name: str, header: str, *, digits: int = 2) -> Column:
    """Show a figure whose interval stands in the columns named after it."""
    return estimate(name, f"{header} [95%]", f"{name}_ci_low", f"{name}_ci_high", digits=digits)


# Figures of `tuning` that a page shows; auarc is 1 - aurc, say, and all of them stand in the findings folder.
FIGURES_SHOWN = (
    "accuracy", "top_answer_agreement", "kendall_distance", "dist_ce", "rank_cs", "ent_ce", "mean", "human_spearman",
    "human_partial", "correct_spearman", "auroc", "prr", "ece_rank", "ece_width", "brier", "nll",
)  # fmt: skip

SHOWN: dict[str, tuple[str, str, list[Column]]] = {
    "overview": (
        "Answers",
        "Accuracy with Wilson's interval, in percent; p: one-sided exact test against choosing at random. Position: "
        "the one chosen most often, by its place in the list (A is the first), with its share.",
        [
            value("n", "n", 0),
            estimate("accuracy", "accuracy % [95%]", "ci_low", "ci_high", digits=1, scale=100),
            share("chance", "chance %"),
            probability("p", "p"),
            share("best_constant", "best constant %"),
            Column("position (%)", _position),
            share("top_expected", "at random %"),
            value("n_ties", "ties", 0),
        ],
    ),
    "agreement": (
        "Agreement with people",
        "Share of items, in percent, where the model's option is one of the people's most frequent; Kendall distance "
        "of the rankings, and that of a random ranking.",
        [
            value("n", "n", 0),
            estimate("top_answer_agreement", "agreement % [95%]", "ci_low", "ci_high", digits=1, scale=100),
            share("chance", "chance %"),
            share("best_constant", "best constant %"),
            probability("p_poisson_binomial", "p (exact)"),
            probability("p_z", "p (z)"),
            estimate("kendall_distance", "Kendall distance [95%]", "kendall_ci_low", "kendall_ci_high"),
            value("kendall_random", "random"),
        ],
    ),
    "human_calibration": (
        "Shares, rankings and entropies beside people's",
        "Mean total variation distance of the model's shares of the options from people's, that of a uniform model, "
        "and what the people's own sampling noise would give; share of items, in percent, whose options are ranked "
        "as people rank them, and that expected of a random ranking; entropy over the options less people's, in "
        "nats.",
        [
            value("n", "n", 0),
            _figure("dist_ce", "distance", digits=3),
            value("dist_ce_uniform", "uniform", 3),
            value("dist_ce_floor", "sampling noise", 3),
            estimate("rank_cs", "same ranking % [95%]", "rank_cs_ci_low", "rank_cs_ci_high", digits=1, scale=100),
            share("rank_cs_random", "random %"),
            _figure("ent_ce", "entropy difference"),
            value("ent_ce_absolute", "absolute"),
        ],
    ),
    "alignment": (
        "Alignment with human entropy",
        "Spearman correlation of each measure with normalised human entropy; p corrected over all measures of a run by "
        "Holm, by Benjamini and Hochberg, and against the largest correlation under permutation (max); partial: with "
        "the number of options held constant. Missing: items without a value of the measure.",
        [
            text("measure"),
            value("n", "n", 0),
            value("n_missing", "missing", 0),
            *_correlation("correlation", "correlation"),
            probability("p_max", "p (max)"),
            estimate("partial", "partial [95%]", "partial_ci_low", "partial_ci_high"),
        ],
    ),
    "alignment_pearson": (
        "Alignment as Pearson's r",
        "The same as Pearson correlation.",
        [
            text("measure"),
            value("n", "n", 0),
            *_correlation("correlation", "Pearson r"),
            estimate("partial", "partial [95%]", "partial_ci_low", "partial_ci_high"),
        ],
    ),
    "alignment_kendall": (
        "Alignment as Kendall's tau",
        "The same as Kendall's tau-b.",
        [
            text("measure"),
            value("n", "n", 0),
            *_correlation("correlation", "Kendall tau"),
            estimate("partial", "partial [95%]", "partial_ci_low", "partial_ci_high"),
        ],
    ),
    "uncertainty_agreement": (
        "Uncertainty and agreement with people",
        "Spearman correlation of each measure with choosing one of people's most frequent options; AUROC of other "
        "choices being the more uncertain ones; partial: with human entropy held constant.",
        [
            text("measure"),
            value("n", "n", 0),
            value("n_tied", "ties", 0),
            *_correlation("spearman", "Spearman"),
            _figure("auroc", "AUROC"),
            _figure("partial", "partial"),
        ],
    ),
    "controls": (
        "The number of options",
        "Correlation with human entropy: both in nats, both normalised, and in nats with the number of options "
        "held constant.",
        [
            text("measure"),
            value("n", "n", 0),
            estimate("raw", "in nats [95%]", "raw_ci_low", "raw_ci_high"),
            estimate("normalized", "normalised [95%]", "normalized_ci_low", "normalized_ci_high"),
            estimate("partial", "partial [95%]", "partial_ci_low", "partial_ci_high"),
            text("flag"),
        ],
    ),
    "calibration": (
        "Uncertainty and correctness",
        "Spearman correlation of each measure with correctness; AUROC and average precision (AUPRC) of finding wrong "
        "answers by their uncertainty; area under the risk-coverage curve (AURC, low is good); prediction-rejection "
        "ratio (PRR); expected calibration error by ranks.",
        [
            text("measure"),
            value("n", "n", 0),
            *_correlation("spearman", "Spearman"),
            _figure("auroc", "AUROC"),
            _figure("auprc", "AUPRC"),
            _figure("aurc", "AURC"),
            _figure("prr", "PRR"),
            _figure("ece_rank", "ECE (rank)"),
        ],
    ),
    "calibration_errors": (
        "Calibration of stated probabilities",
        "Expected calibration error by bins of equal width, of equal mass, and by the monotone sweep; the largest "
        "error of a bin (MCE); SmoothECE, beside its mean if every probability were right (null) and the p of so "
        "much; Brier score; negative log-likelihood in nats. Calibration errors are averages of absolute values: "
        "they and the ends of their intervals lie too high.",
        [
            text("confidence", "probability"),
            value("n", "n", 0),
            share("accuracy", "accuracy %"),
            _figure("ece_width", "ECE (width)", digits=3),
            _figure("ece_mass", "ECE (mass)", digits=3),
            value("ece_sweep", "ECE (sweep)", 3),
            _figure("mce", "MCE"),
            _figure("smece", "smECE", digits=3),
            value("smece_null", "its null", 3),
            probability("smece_p", "p (smECE)"),
            _figure("brier", "Brier", digits=3),
            _figure("nll", "NLL", digits=3),
        ],
    ),
    "jsd_shift": (
        "Shift of the Jensen-Shannon distance",
        "Distance between the model's choices and the right answers among the more uncertain items (high), less that "
        "among the less uncertain ones (low); centred on its mean under random relabelling of the items. Positive is "
        "calibrated.",
        [
            text("measure"),
            value("n_high", "n high", 0),
            value("n_low", "n low", 0),
            value("js_high", "high", 3),
            value("js_low", "low", 3),
            value("statistic", "shift", 3),
            value("null_mean", "null mean", 3),
            value("centred", "centred", 3),
            probability("p", "p"),
        ],
    ),
    "simultaneity": (
        "Aligned and calibrated at once",
        "Correlation with human entropy and with being wrong, each turned so that positive is good, with p "
        "corrected by Holm's method; the verdict at 0.05.",
        [
            text("measure"),
            _figure("alignment", "alignment"),
            probability("alignment_p", "p (alignment)"),
            _figure("calibration", "calibration"),
            probability("calibration_p", "p (calibration)"),
            _figure("auroc", "AUROC"),
            text("verdict"),
            text("strength", "|alignment|"),
        ],
    ),
    "tuning": (
        "Instruct against base",
        "Difference instruct - base of every figure on the same items, with paired bootstrap intervals; p of the "
        "difference over its standard error, corrected by Holm over all figures of a pair; the smallest difference "
        "found with a power of 80%.",
        [
            text("pair"),
            text("figure"),
            text("measure"),
            value("n", "n", 0),
            value("base_value", "base", 3),
            value("instruct_value", "instruct", 3),
            estimate("difference", "difference [95%]", "ci_low", "ci_high", digits=3),
            probability("p", "p"),
            probability("p_holm", "p (Holm)"),
            value("smallest_difference", "smallest", 3),
            text("better"),
        ],
    ),
    "tuning_over_pairs": (
        "Instruct against base, over pairs",
        "Wilcoxon's signed-rank test over pairs, exact; the smallest p that so many pairs can give; matched-pairs "
        "rank-biserial correlation, 1 where the figure is higher in every instruct model.",
        [
            text("figure"),
            text("measure"),
            value("n_pairs", "pairs", 0),
            value("n_higher", "higher", 0),
            value("n_lower", "lower", 0),
            value("median_difference", "median difference", 3),
            value("rank_biserial", "rank-biserial"),
            probability("p", "p"),
            value("smallest_p", "smallest p", 4),
            probability("p_holm", "p (Holm)"),
        ],
    ),
    "calibration_by_subject": (
        "Uncertainty and correctness by subject",
        "Figures within each subject; – where one is not defined.",
        [
            text("subject"),
            text("measure"),
            value("n", "n", 0),
            share("accuracy", "accuracy %"),
            value("spearman", "Spearman"),
            value("auroc", "AUROC"),
            value("prr", "PRR"),
            value("ece_rank", "ECE (rank)"),
        ],
    ),
    "curve": (
        "Probes beside the best output measure",
        "Pearson r (human entropy) or AUROC (correctness), out of fold. p (max): the best layer against the null of "
        "the maximum over layers. Nested: layer and penalty chosen inside the training folds.",
        [
            text("target"),
            text("score_name", "score"),
            value("best_layer", "best layer", 0),
            estimate("best_score", "best layer's score [95%]", "best_ci_low", "best_ci_high"),
            probability("p_max", "p (max)"),
            estimate("nested_score", "nested [95%]", "nested_ci_low", "nested_ci_high"),
            probability("nested_p", "p (nested)"),
            text("measure", "best output measure"),
            estimate("measure_score", "its score [95%]", "measure_ci_low", "measure_ci_high"),
        ],
    ),
    "layers": (
        "Probes by layer",
        "Out-of-fold scores of every layer; the null is that of shuffled targets.",
        [
            text("target"),
            value("layer", "layer", 0),
            value("n", "n", 0),
            value("r2", "R²", 3),
            estimate("pearson", "Pearson r [95%]", "ci_low", "ci_high"),
            estimate("auroc", "AUROC [95%]", "ci_low", "ci_high"),
            value("null_mean", "null mean", 3),
            value("null_sd", "null sd", 3),
            probability("p", "p"),
            probability("p_max", "p (max)"),
        ],
    ),
    "power": (
        "What could have been found",
        "The smallest effects that tests at 0.05 find with a power of 80% with so many items and options: Spearman "
        "correlation (alone, and corrected for all measures), agreement with people and accuracy in percent, AUROC.",
        [
            value("n", "items", 0),
            value("fewest_options", "fewest options", 0),
            value("most_options", "most options", 0),
            value("n_tests", "tests", 0),
            value("smallest_correlation", "correlation"),
            value("smallest_correlation_corrected", "corrected"),
            share("smallest_agreement", "agreement %"),
            share("agreement_chance", "chance %"),
            share("smallest_accuracy", "accuracy %"),
            share("accuracy_chance", "chance %"),
            value("smallest_auroc", "AUROC"),
        ],
    ),
    "datasets": (
        "Datasets",
        "Correlation of the number of options with human entropy, and the noise of human entropy (median standard "
        "error, nats).",
        [
            value("n", "items", 0),
            value("n_human", "with human answers", 0),
            value("fewest_options", "fewest options", 0),
            value("most_options", "most options", 0),
            value("options_human_entropy", "options × entropy (nats)"),
            value("options_human_entropy_normalized", "options × entropy (normalised)"),
            value("human_entropy_se", "standard error"),
        ],
    ),
    "ceiling": (
        "Reliability of human entropy",
        "The correlation that a perfect measure could reach with human entropy as measured on so few people.",
        [
            value("n_counted", "items", 0),
            value("respondents", "people (median)", 0),
            text("correlation_kind", "correlation"),
            value("reliability", "reliability", 3),
            estimate("ceiling", "ceiling [95%]", "ci_low", "ci_high", digits=3),
            text("note"),
        ],
    ),
}
SHOWN |= representation_columns.SHOWN
