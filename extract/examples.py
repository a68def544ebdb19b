"""The worked examples shown before the question in the two-shot prompts, written for doubtlens.

None of them is an item of an embedded dataset, and their right answers carry different letters (B and C), so
that the examples themselves do not point to one letter.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """A question with its options and the index of the right one."""

    question: str
    options: tuple[str, ...]
    answer: int


TWO_SHOT_EXAMPLES = (
    Example("What do bees make from the nectar of flowers?", ("Silk", "Honey", "Paper", "Pearls"), 1),
    Example("On which continent is Ghana?", ("Asia", "Europe", "Africa", "South America"), 2),
)
