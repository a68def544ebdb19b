"""Sentences about the output beside the residual stream: measure by measure, all together, and through the layers."""

from __future__ import annotations

import pandas as pd

from .clauses import FEW, LEVEL, Clauses, Settings, Tables, Told, intervals
from .phrases import by, measure, spread, who
from .probe_sentences import TARGETS
from .wording import count, estimate, number, p_value

UNITS = {"auroc": "AUROC", "pearson": "Pearson r", "spearman": "Spearman correlation", "kendall": "Kendall tau-b"}


def behaviour(part: pd.DataFrame, tables: Tables, settings: Settings) -> Told:
    """Tell whether the probe says more about each target than the output measures do, one by one."""
    part = part[part["difference"].notna()]
    for target, rows in by(part, "target"):
        if rows.empty:
            continue
        unit = UNITS.get(rows["method"].iloc[0], str(rows["method"].iloc[0]))
        models = [own for _, own in by(rows, "model")]
        clauses: Clauses = [(None, _count(models))] if len(models) > FEW else [(None, _compare(own)) for own in models]
        yield (
            f"Output measures beside the probe of {TARGETS.get(str(target), str(target))}",
            clauses,
            f"{unit} of the probe's nested out-of-fold predictions and of each measure, turned the way it correlates "
            "on these items, which flatters the measures; the probe was fitted to the target, which no measure was. "
            f"{intervals(rows, settings, paired=True)} p-values of the differences are corrected by Holm over all "
            "measures and both targets of a run.",
        )


def _compare(rows: pd.DataFrame) -> str:
    best = rows.loc[rows["r_measure"].idxmax()]
    more, less = _apart(rows)
    return (
        f"for {who(best)}, the probe reaches "
        f"{estimate(best['r_probe'], best['r_probe_ci_low'], best['r_probe_ci_high'])} and the best of "
        f"{count(len(rows), 'measure')}, {measure(best)}, "
        f"{estimate(best['r_measure'], best['r_measure_ci_low'], best['r_measure_ci_high'])} (difference "
        f"{estimate(best['difference'], best['difference_ci_low'], best['difference_ci_high'])}, Holm-corrected "
        f"{p_value(best['p_holm'])}); the probe says more than {more} of them and less than {less}, with differences "
        "that survive the correction"
    )


def _count(models: list[pd.DataFrame]) -> str:
    best = pd.DataFrame([rows.loc[rows["r_measure"].idxmax()] for rows in models])
    ahead = int(((best["difference"] > 0) & (best["p_holm"] < LEVEL)).sum())
    behind = int(((best["difference"] < 0) & (best["p_holm"] < LEVEL)).sum())
    return (
        f"probe less the best measure over {count(len(best), 'model')}: {spread(best, 'difference')}; the probe says "
        f"more in {ahead} and less in {behind} of them, with differences that survive the correction"
    )


def _apart(rows: pd.DataFrame) -> tuple[int, int]:
    clear = rows["p_holm"] < LEVEL
    return int((clear & (rows["difference"] > 0)).sum()), int((clear & (rows["difference"] < 0)).sum())


def increments(part: pd.DataFrame, tables: Tables, settings: Settings) -> Told:
    """Tell what the probe adds to all output measures together, and they to it."""
    part = part[part["r2_both"].notna()]
    for target, rows in by(part, "target"):
        if rows.empty:
            continue
        clauses: Clauses = []
        for scoring, own in by(rows, "scoring"):
            told = [_many(own)] if len(own) > FEW else [_increment(row) for _, row in own.iterrows()]
            clauses += [(scoring, text) for text in told]
        yield (
            f"What each adds about {TARGETS.get(str(target), str(target))}",
            clauses,
            "R² of out-of-fold predictions against the mean of the training folds: from all output measures (ridge, "
            "entered as they are and as ranks), from the probe, and from both, stacked on predictions of inner "
            f"folds. Below 0 is worse than the mean. {intervals(rows, settings, paired=True)}",
        )


def _increment(row: pd.Series) -> str:
    added, reverse = (
        f"{estimate(row[name], row[f'{name}_ci_low'], row[f'{name}_ci_high'], 3)} ({p_value(row[f'{name}_p'])})"
        for name in ("probe_over_measures", "measures_over_probe")
    )
    return (
        f"for {who(row)}, R² is {number(row['r2_measures'], 3)} from the measures, {number(row['r2_probe'], 3)} from "
        f"the probe and {number(row['r2_both'], 3)} from both: the probe adds {added} to the measures, and they add "
        f"{reverse} to it"
    )


def _many(rows: pd.DataFrame) -> str:
    found = [int(((rows[name] > 0) & (rows[f"{name}_p"] < LEVEL)).sum()) for name in _ADDED]
    return (
        f"R² that the probe adds to the measures over {count(len(rows), 'model')}: "
        f"{spread(rows, 'probe_over_measures')}, p < {LEVEL} in {found[0]}; that they add to it: "
        f"{spread(rows, 'measures_over_probe')}, p < {LEVEL} in {found[1]}"
    )


_ADDED = ("probe_over_measures", "measures_over_probe")


def lens(part: pd.DataFrame, tables: Tables, settings: Settings) -> Told:
    """Tell at which depth the model's own readout follows people's disagreement, and its errors."""
    clauses: Clauses = []
    for scoring, own in by(part, "scoring"):
        for name, rows in by(own, "measure"):
            models = [curve for _, curve in by(rows, "model")]
            for value, p, what in (
                ("human_spearman", "p_max", "human entropy (Spearman)"),
                ("correct_auroc", "correct_p_max", "wrong answers (AUROC)"),
            ):
                known = [curve[curve[value].notna()] for curve in models]
                known = [curve for curve in known if len(curve)]
                if len(known) > FEW:
                    best = pd.DataFrame([curve.loc[curve[p].idxmin()] for curve in known])
                    clauses.append((scoring, f"{name} and {what}, clearest layer: {spread(best, value)}"))
                else:
                    clauses += [(scoring, _depth(curve, str(name), value, p, what)) for curve in known]
    if not clauses:
        return
    yield (
        "Through the layers, as the model itself would read them",
        clauses,
        "Logit lens: the output measures computed from each layer's residual stream through the model's own final "
        "norm and head. p compares a layer with the largest of all layers under permutations among items with "
        f"equally many options. {intervals(part, settings)}",
    )


def _depth(curve: pd.DataFrame, name: str, value: str, p: str, what: str) -> str:
    neutral = 0.5 if value.endswith("auroc") else 0.0
    best = curve.loc[(curve[value] - neutral).abs().idxmax()]
    last = curve.loc[curve["layer"].idxmax()]
    verdict = "" if best[p] < LEVEL else ", not distinguishable from none"
    found = curve[curve[p] < LEVEL]["layer"]
    span = f"; {len(found)} layers stand out, from {int(found.min())} to {int(found.max())}" if len(found) > 1 else ""
    return (
        f"for {who(best)}, {name} is most related to {what} at layer {best['layer']}, "
        f"{estimate(best[value], best[f'{value}_ci_low'], best[f'{value}_ci_high'])} ({p_value(best[p])} against the "
        f"maximum over layers{verdict}), and at the output "
        f"{estimate(last[value], last[f'{value}_ci_low'], last[f'{value}_ci_high'])}{span}"
    )
