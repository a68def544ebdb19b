"""Sentences about what instruct fine-tuning changes, within each pair of models and over pairs.

A change counts as found when its p-value survives Holm's correction over every figure compared in the pair. A few
figures are told whatever came out: those of the answers, of the normalised choice entropy and of the probes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pandas as pd

from .clauses import FEW, HEADLINE, LEVEL, Clauses, Settings, Tables, Told, intervals
from .phrases import by, counts, span, spread
from .wording import count, interval, listing, number, p_value, percent


class Key(NamedTuple):
    """A figure that is told whatever came out: its name, its measure, its words, and whether it is a share."""

    figure: str
    measure: str | None
    words: str
    share: bool = False


KEYS = (
    Key("accuracy", None, "accuracy", True),
    Key("top_answer_agreement", None, "agreement with people's most frequent answers", True),
    Key("dist_ce", None, "distance of the option probabilities from people's shares"),
    Key("mean", HEADLINE, "mean normalised choice entropy"),
    Key("human_spearman", HEADLINE, "Spearman correlation of normalised choice entropy with human entropy"),
    Key("auroc", HEADLINE, "AUROC of normalised choice entropy for errors"),
    Key("probe_pearson", None, "Pearson correlation of the probe's prediction with human entropy"),
    Key("probe_auroc", None, "AUROC of the probe's prediction for right answers"),
)


def tuning(part: pd.DataFrame, tables: Tables, settings: Settings) -> Told:
    """Tell what changes from the base to the instruct model of each pair, or over many pairs by range."""
    part = part[part["difference"].notna()]
    if part.empty:
        return
    pairs = [rows for _, rows in by(part, "pair")]
    how = (
        "A difference is instruct less base, on the items that both were asked. "
        f"{intervals(part, settings, paired=True)} p compares a difference with its bootstrap standard error; Holm's "
        "correction allows for every figure, measure, scoring and nucleus compared in a pair. Intervals are those of "
        "single figures."
    )
    if len(pairs) > FEW:
        yield "Effect of instruct fine-tuning", _of_many(pairs), how
        return
    for rows in pairs:
        title = "Effect of instruct fine-tuning"
        yield title if len(pairs) == 1 else f"{title}: {rows['pair'].iloc[0]}", _of_one(rows), how


def _of_one(rows: pd.DataFrame) -> Clauses:
    base, instruct = rows["base"].iloc[0], rows["instruct"].iloc[0]
    compared = f"{count(int(rows['p'].notna().sum()), 'figure')} compared between {base} and {instruct}"
    alone = f"({int((rows['p'] < LEVEL).sum())} with p < {LEVEL} on their own)"
    surviving = rows[rows["p_holm"] < LEVEL]
    clauses: Clauses = []
    if len(surviving):
        changed = f"{len(surviving)} {'differs' if len(surviving) == 1 else 'differ'} after Holm's correction {alone}"
        clauses.append((None, f"of {compared}, {changed}: {_sides(surviving)}"))
    else:
        clauses.append((None, f"none of {compared} differs after Holm's correction {alone}"))
    for scoring, of_scoring in by(rows, "scoring"):
        told = [_change(key, row) for key, row in _told(of_scoring)]
        if told:
            clauses.append((scoring, f"from {base} to {instruct}, {'; '.join(told)}"))
    if surviving.empty:
        for scoring, of_scoring in by(rows, "scoring"):
            text = _could_find(of_scoring)
            clauses += [(scoring, text)] if text else []
    return clauses


def _sides(surviving: pd.DataFrame) -> str:
    better, worse = ((surviving["better"] == side).sum() for side in ("instruct", "base"))
    parts = [
        (better, "better in the instruct model"),
        (worse, "worse"),
        (len(surviving) - better - worse, "with neither side better"),
    ]
    return listing(f"{int(n)} {words}" for n, words in parts if n)


def _told(rows: pd.DataFrame) -> list[tuple[Key, pd.Series]]:
    """Find the rows of the figures that are told whatever came out."""
    found = []
    for key in KEYS:
        own = rows[_is(rows, key)]
        found += [(key, row) for _, row in own.iterrows()]
    return found


def _is(rows: pd.DataFrame, key: Key) -> pd.Series:
    same = rows["measure"].isna() if key.measure is None else rows["measure"] == key.measure
    return (rows["figure"] == key.figure) & same


def _change(key: Key, row: pd.Series) -> str:
    value = _value(key)
    low, high = row["base_value"], row["instruct_value"]
    if row["difference"] == 0 and row["se"] == 0:
        return f"{key.words} is the same in both ({value(low)})"
    found = row["p_holm"] < LEVEL
    verb = "does not change distinguishably" if not found else "rises" if row["difference"] > 0 else "falls"
    side = {"instruct": ", which is better", "base": ", which is worse"}.get(row["better"], "") if found else ""
    return (
        f"{key.words} {verb}{side} ({value(low)} and {value(high)}, difference {_difference(key, row)}, "
        f"{p_value(row['p'])}, Holm-corrected {p_value(row['p_holm'])})"
    )


def _difference(key: Key, row: pd.Series) -> str:
    """Write a difference with its interval."""
    digits, scale = (1, 100) if key.share else (2, 1)
    found = f"{number(scale * row['difference'], digits)}{' points' if key.share else ''}"
    return f"{found} {interval(scale * row['ci_low'], scale * row['ci_high'], digits)}"


def _value(key: Key) -> Callable[[float], str]:
    return percent if key.share else number


def _could_find(rows: pd.DataFrame) -> str:
    """Say how large a true change of the told figures would have been found; empty where nothing could vary."""
    known = [(key, row["smallest_difference"]) for key, row in _told(rows) if row["smallest_difference"] > 0]
    if not known:
        return ""
    sizes = [f"{_size(key, smallest)} in the {key.words}" for key, smallest in known]
    each = "each " if len(known) > 1 else ""
    return (
        f"a true difference of {listing(sizes)} would {each}be found with a probability of 80% if it alone were "
        "tested; smaller ones may be there"
    )


def _size(key: Key, difference: float) -> str:
    """Write a difference, that of shares in percentage points."""
    if key.share:
        return f"{number(100 * difference, 1)} points"
    return number(difference, 2 if abs(difference) >= 0.01 or difference == 0 else 3)


def _of_many(pairs: list[pd.DataFrame]) -> Clauses:
    survivors = [int((rows["p_holm"] < LEVEL).sum()) for rows in pairs]
    compared = counts([int(rows["p"].notna().sum()) for rows in pairs], "figure")
    without = survivors.count(0)
    found = "none of them differs in any pair"
    if any(survivors):
        none = f", none in {count(without, 'pair')}" if without else ""
        found = f"{span(survivors, '{:,.0f}'.format)} of them differ{none}"
    each = f"{compared} {'was' if compared == '1 figure' else 'were'} compared in each of {len(pairs)} pairs"
    clauses: Clauses = [(None, f"{each}; after Holm's correction {found}")]
    for scoring, rows in by(pd.concat(pairs), "scoring"):
        told = [_range(key, own) for key in KEYS if len(own := rows[_is(rows, key)])]
        if told:
            clauses.append((scoring, f"from base to instruct, {'; '.join(told)}"))
    return clauses


def _range(key: Key, rows: pd.DataFrame) -> str:
    found = rows[rows["p_holm"] < LEVEL]
    better, worse = int((found["better"] == "instruct").sum()), int((found["better"] == "base").sum())
    sides = f", better in {better} and worse in {worse}" if better or worse else ""
    differences = spread(rows, "difference", partial(_size, key), name=lambda row: str(row["pair"]))
    return f"{key.words} changes {differences} (distinguishably in {len(found)} of {len(rows)} pairs{sides})"


def over_pairs(part: pd.DataFrame, tables: Tables, settings: Settings) -> Told:
    """Tell which figures move the same way in several pairs, and where so few pairs can show nothing."""
    tested = part[(part["n_pairs"] >= 2) & part["p"].notna()]
    if tested.empty:
        return
    surviving = int((tested["p_holm"] < LEVEL).sum())
    alone = f"({int((tested['p'] < LEVEL).sum())} with p < {LEVEL} on their own)"
    pairs = span(tested["n_pairs"], "{:.0f}".format)
    found = f"{surviving} of" if surviving else "none of"
    clauses: Clauses = [
        (
            None,
            f"{found} {count(len(tested), 'figure')} tested over {pairs} pairs of models "
            f"{'survive' if surviving > 1 else 'survives'} Holm's correction {alone}",
        )
    ]
    least = float(tested["smallest_p"].min())
    if least > LEVEL:
        clauses.append(
            (
                None,
                f"no p below {least:g} is possible over so few pairs, so that no figure can be significant at {LEVEL}, "
                "however much it changes",
            )
        )
    elif least * len(tested) >= LEVEL:
        clauses.append(
            (
                None,
                f"no p below {least:.2g} is possible over so many pairs, and Holm's correction over {len(tested):,} "
                f"figures makes that {number(min(1.0, least * len(tested)))}: none could survive it",
            )
        )
    for scoring, rows in by(tested, "scoring"):
        told = [_over(key, row) for key, row in _told(rows)]
        if told:
            clauses.append((scoring, f"from base to instruct, {'; '.join(told)}"))
    yield (
        "Fine-tuning over pairs of models",
        clauses,
        "Wilcoxon's signed-rank test, exact and two-sided: pairs are what is sampled, items and their intervals play "
        "no part. A rank-biserial correlation of 1 means that every pair rises, −1 that every pair falls. The change "
        "is the Hodges-Lehmann centre of the pairs' differences.",
    )


def _over(key: Key, row: pd.Series) -> str:
    equal = f" and stays equal in {int(row['n_equal'])}" if row["n_equal"] else ""
    centre = row["hodges_lehmann"]
    size = "" if math.isnan(centre) else f"change {_size(key, centre)}, "
    return (
        f"{key.words} rises in {int(row['n_higher'])} of {int(row['n_pairs'])} pairs, falls in "
        f"{int(row['n_lower'])}{equal} ({size}rank-biserial {number(row['rank_biserial'])}, exact p = {row['p']:.3g})"
    )
