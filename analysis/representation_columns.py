"""Which columns of the tables about the representation a report shows, under which title and note."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .report_cells import Cell, Column, estimate, is_absent, probability, text, value


def _figure(name: str, header: str, *, digits: int = 2) -> Column:
    """Show a figure whose interval stands in the columns named after it."""
    return estimate(name, f"{header} [95%]", f"{name}_ci_low", f"{name}_ci_high", digits=digits)


def _yes(name: str, header: str) -> Column:
    """Show whether something is so; empty where it does not apply."""

    def write(row: Mapping[str, Any]) -> Cell:
        return Cell("" if is_absent(row[name]) else "yes" if row[name] else "no")

    return Column(header, write, numeric=False)


_SITE = [text("site"), text("position")]

SHOWN: dict[str, tuple[str, str, list[Column]]] = {
    "probe_controls": (
        "Probes beside their controls",
        "Nested out-of-fold score (Pearson r, or AUROC of a 0/1 target) of the probe and of each baseline on the "
        "same folds; R² against the training means; partial: with what the number of options and the length predict "
        "held constant; difference: probe less control, paired. As good: that interval does not lie above 0.",
        [
            *_SITE,
            text("target"),
            text("control"),
            value("n", "n", 0),
            value("n_features", "features", 0),
            estimate("score", "score [95%]", "ci_low", "ci_high"),
            value("r2", "R²", 3),
            value("partial", "partial"),
            _figure("difference", "difference"),
            probability("p", "p"),
            _yes("as_good", "as good"),
            text("note"),
        ],
    ),
    "learning": (
        "Learning curves of the probes",
        "Out-of-fold score by the number of training items, mean over draws, with the interval over items and draws.",
        [
            *_SITE,
            text("target"),
            value("layer", "layer", 0),
            value("n_train", "training items", 0),
            value("repeats", "draws", 0),
            estimate("score", "score [95%]", "ci_low", "ci_high"),
            value("score_sd", "sd"),
            value("r2", "R²", 3),
        ],
    ),
    "behaviour": (
        "Output measures beside the probes",
        "Score of each measure, turned as it correlates on these items, and of the probe's nested predictions: "
        "Pearson r, or AUROC of a 0/1 target; difference: probe less measure, paired; p corrected over all measures "
        "and targets of a run.",
        [
            text("target"),
            text("measure"),
            value("n", "n", 0),
            _figure("r_measure", "measure"),
            _figure("r_probe", "probe"),
            _figure("difference", "difference"),
            probability("p", "p"),
            probability("p_holm", "p (Holm)"),
            _yes("reversed", "against its direction"),
        ],
    ),
    "incremental": (
        "What probe and measures add to each other",
        "R² of out-of-fold predictions from all output measures, from the probe and from both, and what each adds.",
        [
            text("target"),
            value("n", "n", 0),
            _figure("r2_measures", "measures", digits=3),
            _figure("r2_probe", "probe", digits=3),
            _figure("r2_both", "both", digits=3),
            _figure("probe_over_measures", "probe adds", digits=3),
            probability("probe_over_measures_p", "p"),
            _figure("measures_over_probe", "measures add", digits=3),
            probability("measures_over_probe_p", "p"),
        ],
    ),
    "lens": (
        "Logit lens",
        "Output measures computed from each layer's residual stream through the model's own final norm and head: "
        "Spearman correlation with human entropy, AUROC of telling right answers of the model from wrong ones, and p "
        "against the maximum over layers.",
        [
            text("measure"),
            value("layer", "layer", 0),
            value("n", "n", 0),
            value("mean", "mean"),
            _figure("human_spearman", "human entropy"),
            probability("p_max", "p (max)"),
            _figure("correct_auroc", "AUROC"),
        ],
    ),
    "similarity": (
        "Geometry beside people's profiles",
        "Spearman correlation of distances between activations with distances between people's sorted response "
        "profiles, within each number of options.",
        [
            *_SITE,
            value("layer", "layer", 0),
            value("n", "n", 0),
            value("n_pairs", "pairs", 0),
            value("rsa", "correlation", 3),
            value("null_mean", "null mean", 3),
            value("null_sd", "null sd", 3),
            probability("p", "p"),
            probability("p_max", "p (max)"),
        ],
    ),
    "two_targets": (
        "Human entropy and correctness at once",
        "Cosine of the two directions in the metric of the activations' covariance, from different halves of the "
        "subjects, with its p (largest over three nulls) and p against the maximum over layers; out-of-fold "
        "predictions of each target scored on the other, correctness counted as error.",
        [
            *_SITE,
            value("layer", "layer", 0),
            value("n", "n", 0),
            value("cosine", "cosine"),
            value("cosine_null_mean", "null mean"),
            value("cosine_null_sd", "null sd"),
            probability("cosine_p", "p"),
            probability("cosine_p_max", "p (max)"),
            value("cosine_disattenuated", "disattenuated"),
            value("cosine_in_sample", "in sample"),
            value("cosine_plain", "plain"),
            _figure("first_score", "entropy by its probe"),
            _figure("second_score", "errors by theirs"),
            _figure("first_on_second", "errors by the entropy probe"),
            _figure("second_on_first", "entropy by the error probe"),
        ],
    ),
    "interventions": (
        "Interventions along the probes",
        "Mean change of each figure from the unedited pass, by dose (standard deviations of what the probe reads), "
        "with the range of random directions of equal length and the rank of the probe among them; slope per "
        "standard deviation. Removal sets what the probe reads to its mean: see its size, the mean absolute change "
        "of the items.",
        [
            text("target"),
            value("layer", "layer", 0),
            text("figure"),
            text("mode"),
            value("dose", "dose", 1),
            value("n", "n", 0),
            value("value", "value", 3),
            estimate("change", "change [95%]", "ci_low", "ci_high", digits=3),
            value("random_low", "random, least", 3),
            value("random_high", "greatest", 3),
            probability("p", "p"),
            value("size", "size", 3),
            value("size_random", "of random", 3),
            probability("size_p", "p (size)"),
            value("slope", "slope", 4),
            probability("slope_p", "p (slope)"),
        ],
    ),
    "transfer": (
        "Probes of one run on another",
        "Score of a ridge probe trained on one run and tested on another: Pearson r, or AUROC. Shared: items of the "
        "test run whose question is in the training run; they are predicted without it and its subject.",
        [
            text("train"),
            text("test"),
            text("target"),
            value("layer", "layer", 0),
            value("n_train", "trained on", 0),
            value("n_test", "tested on", 0),
            value("n_shared", "shared", 0),
            estimate("score", "score [95%]", "ci_low", "ci_high"),
            value("r2", "R²", 3),
            probability("p", "p"),
        ],
    ),
    "geometry": (
        "Layers of base and instruct",
        "Debiased linear CKA of the two models' layers with its jackknife interval, and the cosine of a target's two "
        "directions, in the metric of the activations' covariance and plain.",
        [
            text("pair"),
            *_SITE,
            value("layer", "layer", 0),
            value("n", "n", 0),
            _figure("cka", "CKA", digits=3),
            text("target"),
            value("cosine", "cosine"),
            probability("cosine_p", "p"),
            probability("cosine_p_max", "p (max)"),
            value("cosine_plain", "plain"),
        ],
    ),
}
