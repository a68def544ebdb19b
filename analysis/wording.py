"""How numbers are written in sentences and tables: few digits, intervals as [low, high], a true minus sign."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

UNDEFINED = "not defined"
_NAMED = 4


def number(value: float, digits: int = 2) -> str:
    """Write a number with `digits` decimals and a true minus sign; NaN is "not defined"."""
    if value is None or math.isnan(value):
        return UNDEFINED
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:,.{digits}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def interval(low: float, high: float, digits: int = 2) -> str:
    """Write an interval as [low, high]; "[no interval]" where a bound is missing."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return "[no interval]"
    return f"[{number(low, digits)}, {number(high, digits)}]"


def estimate(value: float, low: float, high: float, digits: int = 2) -> str:
    """Write an estimate with its interval: 0.21 [0.12, 0.30]."""
    if value is None or math.isnan(value):
        return UNDEFINED
    return f"{number(value, digits)} {interval(low, high, digits)}"


def percent(share: float) -> str:
    """Write a share in [0, 1] as a percentage with one decimal."""
    return UNDEFINED if share is None or math.isnan(share) else f"{number(100 * share, 1)}%"


def percent_interval(low: float, high: float) -> str:
    """Write an interval of shares as percentages: [17.3%, 25.1%]."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return "[no interval]"
    return f"[{percent(low)}, {percent(high)}]"


def p_value(p: float) -> str:
    """Write a p-value with its sign of equality: p = 0.03, p < 0.001."""
    if p is None or math.isnan(p):
        return f"p {UNDEFINED}"
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.3f}" if p < 0.0995 else f"p = {p:.2f}"


def count(n: int, singular: str, plural: str | None = None) -> str:
    """Write a number of things: 1 item, 2 items."""
    return f"{n:,} {singular if n == 1 else plural or singular + 's'}"


def listing(names: Iterable[object]) -> str:
    """Join names: a, b and c."""
    words = [str(name) for name in names]
    if len(words) <= 1:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def some(names: Sequence[object], what: str) -> str:
    """Join names, or the first few of many and how many are left: a, b, c and 12 more models."""
    if len(names) <= _NAMED + 1:
        return listing(names)
    return f"{', '.join(map(str, names[:_NAMED]))} and {len(names) - _NAMED} more {what}"
