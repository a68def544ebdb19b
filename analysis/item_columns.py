"""The items of one run, as the columns that its figures read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..probes.measure_table import MEASURES
from .agreement_items import agreement_by_item
from .answers import PROBE_DIRECTIONS, Confidence, reading_direction, right_or_wrong, stated_confidence
from .arrays import Floats
from .tables import numbers

# The columns of a signals table that say what its probes predict, and the target of the one of human entropy, which is
# what it was trained on whatever column of disagreement is compared with the measures.
PROBE_COLUMNS = {
    "probe_human": "probe_human_entropy_normalized",
    "probed_human": "human_entropy_normalized",
    "probe_correct": "probe_correct",
}


@dataclass(frozen=True)
class Reading:
    """How figures read a table.

    Attributes:
        human, correct, control, choice, answer: the columns of these roles; control None for no partial correlation.
        directions: +1 (high = uncertain) or -1 for columns outside the measure table.
        as_confidence: take 1 - value of a normalised measure of uncertainty as a confidence.
        bins: of the calibration errors.
        seed: of the coins of `jsd_shift`.
        caller: the function that errors name.
    """

    human: str = "human_entropy_normalized"
    correct: str = "correct"
    control: str | None = "n_options"
    choice: str = "choice"
    answer: str = "answer"
    directions: Mapping[str, int] = field(default_factory=dict)
    as_confidence: bool = False
    bins: int = 10
    seed: int = 0
    caller: str = "Items"

    def column(self, role: str) -> str | None:
        """Name the column of a role, "human" say."""
        columns = {role: getattr(self, role) for role in ("human", "correct", "control", "choice", "answer")}
        return (columns | PROBE_COLUMNS)[role]

    def direction(self, measure: str) -> int:
        """Look up how a measure is read, +1 (high = uncertain) or -1.

        Raises:
            ValueError: nothing says how.
        """
        return reading_direction(measure, self.directions, caller=self.caller)

    def knows(self, measure: str) -> bool:
        """Tell whether the direction of a measure is known."""
        return measure in self.directions or measure in PROBE_DIRECTIONS or measure in MEASURES

    def states_confidence(self, measure: str) -> bool:
        """Tell whether a measure is a probability of being right, or stands in for one (see `stated_confidence`)."""
        known = MEASURES.get(measure)
        stands_in = self.as_confidence and known is not None and known.unit == "share" and known.direction > 0
        return stands_in or measure in ("choice_probability", "probe_correct")


class Items:
    """Rows of one run, whose columns become float64 [n] when first asked for."""

    def __init__(self, frame: pd.DataFrame, reading: Reading) -> None:
        self.frame, self.reading = frame, reading
        self._columns: dict[str, Floats] = {}
        self._agreement: pd.DataFrame | None = None

    def __len__(self) -> int:
        return len(self.frame)

    def column(self, name: str) -> Floats:
        """Read a column [n]; NaN where a value is missing.

        Raises:
            ValueError: text, an infinity, or marks of right and wrong other than 1 and 0.
        """
        if name not in self._columns:
            read = right_or_wrong if name == self.reading.correct else numbers
            self._columns[name] = read(self.frame, name, caller=self.reading.caller)
        return self._columns[name]

    def agreement(self, figure: str) -> Floats:
        """Values [n] of a figure of `agreement_by_item`; NaN where people's or the model's answers are missing."""
        if self._agreement is None:
            self._agreement = agreement_by_item(self.frame).set_index("item").loc[self.frame["item"].tolist()]
        return self._agreement[figure].to_numpy(dtype=np.float64)

    def confidence(self, measure: str) -> Confidence:
        """Read a measure as a probability of being right."""
        return stated_confidence(
            self.frame,
            measure,
            self.column(measure),
            self.reading.direction(measure),
            as_confidence=self.reading.as_confidence,
            caller=self.reading.caller,
        )

    def take(self, present: NDArray[np.bool_]) -> Items:
        """Keep the rows marked in `present` [n]."""
        if present.all():
            return self
        part = Items(self.frame[present], self.reading)
        part._columns = {name: values[present] for name, values in self._columns.items()}
        part._agreement = None if self._agreement is None else self._agreement[present]
        return part
