"""Runs compared where they are equally good: what each had come to when its reward got there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastslow.measure.accuracy import running_max

Points = Sequence[tuple[float, float]]
"""(reward, what is compared) at each evaluation of a run, in the order of training."""


def at_reward(rewards: Sequence[float], values: Sequence[float], level: float) -> float | None:
    """What ``values`` had come to when the running maximum of ``rewards`` first reached ``level``.

    Evaluations are few, so what happened in between is read off the straight line from the last
    evaluation before to the first that reached the level. A run that begins at the level or above
    it has its first value; one that never gets there has none.

    Args:
        rewards: [n], in the order of training.
        values: [n], of the same evaluations.
    """
    best = running_max(rewards)
    after = next((i for i, reward in enumerate(best) if reward >= level), None)
    if after is None:
        return None
    if after == 0:
        return values[0]
    before = after - 1
    share = (level - best[before]) / (best[after] - best[before])
    return values[before] + share * (values[after] - values[before])


@dataclass(frozen=True)
class Matched:
    """What two runs had come to at rewards that both reach.

    Attributes:
        levels: [n] rewards, rising; the last is the lower of the two peaks.
        values: [n] of the first run, in its own unit (nats per token, or samples, say).
        others: [n] of the second run, above 0.
    """

    levels: tuple[float, ...]
    values: tuple[float, ...]
    others: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """[n], first to second: below 1 where the first run drifted, or took, less."""
        return tuple(a / b for a, b in zip(self.values, self.others, strict=True))

    @property
    def at_highest(self) -> float:
        """The ratio at the highest reward that both reach."""
        return self.ratios[-1]

    @property
    def lowest(self) -> float:
        """The smallest ratio: "up to 70 % lower" is a lowest ratio of 0.3."""
        return min(self.ratios)


def match(a: Points, b: Points, count: int = 20) -> Matched | None:
    """What run ``a`` had come to beside run ``b`` at ``count`` rewards that both reach.

    The rewards lie evenly above the higher of the two starts, where nothing was learnt yet, up to
    the lower of the two peaks. Levels that ``b`` reaches with a value of 0 are left out.

    The values have to be a measure that cannot be negative, such as the exact KL divergence or a
    number of samples. Nothing is fitted or smoothed: with noisy rewards a single level says little,
    so look at several seeds.

    Returns:
        None if they share no such reward, for instance because one run never improved.

    Raises:
        ValueError: a run has no points.
    """
    if not a or not b:
        raise ValueError("matching by reward takes an evaluation of either run; found none")
    start = max(a[0][0], b[0][0])
    peak = min(max(reward for reward, _ in points) for points in (a, b))
    if peak <= start:
        return None
    # The peak itself, not what the rounding of the spacing makes of it: both runs do reach it.
    levels = [*map(float, np.linspace(start, peak, count + 1)[1:-1]), peak]
    found = [(level, _at(a, level), _at(b, level)) for level in levels]
    both = [(level, x, y) for level, x, y in found if x is not None and y is not None and y > 0]
    return Matched(*map(tuple, zip(*both, strict=True))) if both else None


def _at(points: Points, level: float) -> float | None:
    return at_reward([reward for reward, _ in points], [value for _, value in points], level)
