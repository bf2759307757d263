"""Claims, and whether what was measured bears them out.

A claim compares one number with a threshold. Each seed gives one reading of the number, paired: the
methods that it compares were trained on the same problems in the same order. The interval is
Student's, at 95 %, over the seeds; of a ratio it is taken of the logarithm. Three seeds therefore
give a wide one, and a single seed none.

- "yes": every number in the interval satisfies the claim.
- "no": none does.
- "undecided": anything else, and wherever a seed gave no reading.

A reading may be a bound, where a run ended before the number could be measured. It counts as what
it is at least (or at most), and never towards the side on which the number itself may lie.
"""

from __future__ import annotations

import math
import operator
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Bound = Literal["exact", "at least", "at most"]
Relation = Literal["above", "at least", "at most"]
Verdict = Literal["yes", "no", "undecided"]

LEVEL = 0.95

_RELATIONS = {"above": operator.gt, "at least": operator.ge, "at most": operator.le}


@dataclass(frozen=True)
class Reading:
    """What one seed gave: the number itself, or a bound on it."""

    value: float
    bound: Bound = "exact"


@dataclass(frozen=True)
class NoReading:
    """Why one seed gave no number, in words."""

    reason: str


@dataclass(frozen=True)
class Claim:
    """A statement about a number, and its readings.

    Attributes:
        text: the statement.
        task: the task that it is about.
        relation: how the number is to stand to ``threshold``.
        threshold: in the number's unit.
        readings: by seed.
        runs: names of the runs that they were read from.
        is_ratio: whether the number is a ratio: all readings are positive.
    """

    text: str
    task: str
    relation: Relation
    threshold: float
    readings: Mapping[int, Reading | NoReading]
    runs: Sequence[str]
    is_ratio: bool = False

    @property
    def estimate(self) -> float | None:
        """The mean over the seeds; of a ratio, the geometric mean."""
        return self._back(statistics.fmean(self._scaled)) if self._measured else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's interval over the seeds; None for fewer than two."""
        values = self._scaled
        if len(values) < 2:
            return None
        from scipy.stats import t

        mean, spread = statistics.fmean(values), statistics.stdev(values)
        half = float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * spread / math.sqrt(len(values))
        return self._back(mean - half), self._back(mean + half)

    @property
    def holds(self) -> Verdict:
        interval = self.interval
        if interval is None or len(self._measured) < len(self.readings):
            return "undecided"
        satisfied = {_RELATIONS[self.relation](end, self.threshold) for end in interval}
        # What is behind a bound may lie further on the claim's side ("out"), or further off it.
        out, back = "at least", "at most"
        if self.relation == "at most":
            out, back = back, out
        bounds = {reading.bound for reading in self._measured}
        if satisfied == {True} and back not in bounds:
            return "yes"
        if satisfied == {False} and out not in bounds:
            return "no"
        return "undecided"

    def to_json(self, command: str) -> dict[str, Any]:
        """The claim as ``claims.json`` holds it; ``command`` repeats the study."""
        return {
            "claim": self.text,
            "task": self.task,
            "seeds": list(self.readings),
            "rule": f"{self.relation} {self.threshold:g}",
            "estimate": self.estimate,
            "interval": self.interval,
            "holds": self.holds,
            "readings": [_reading_to_json(s, r) for s, r in self.readings.items()],
            "runs": list(self.runs),
            "command": command,
        }

    @property
    def _measured(self) -> list[Reading]:
        return [reading for reading in self.readings.values() if isinstance(reading, Reading)]

    @property
    def _scaled(self) -> list[float]:
        values = [reading.value for reading in self._measured]
        return [math.log(value) for value in values] if self.is_ratio else values

    def _back(self, scaled: float) -> float:
        if not self.is_ratio:
            return scaled
        try:
            return math.exp(scaled)
        except OverflowError:  # two seeds that disagree say next to nothing
            return math.inf


def _reading_to_json(seed: int, reading: Reading | NoReading) -> dict[str, Any]:
    if isinstance(reading, NoReading):
        return {"seed": seed, "missing": reading.reason}
    return {"seed": seed, "value": reading.value, "bound": reading.bound}
