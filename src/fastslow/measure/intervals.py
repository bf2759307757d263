"""Estimates with intervals: what a number would be on other problems, or with other seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

Statistic = Callable[..., Any]
"""``statistic(values, axis=-1)`` over the last axis, as ``numpy.mean`` and ``numpy.median``."""


@dataclass(frozen=True)
class Estimate:
    """A number and the interval that it lies in.

    Attributes:
        value: the statistic of the sample itself.
        low: lower end of the interval; NaN where there is none.
        high: upper end of the interval; NaN where there is none.
        n: what the interval rests on: how many problems, or seeds, or points of a curve.
    """

    value: float
    low: float
    high: float
    n: int


def bootstrap(
    samples: ArrayLike,
    statistic: Statistic = np.mean,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """A statistic over problems, with its bootstrap percentile interval.

    Problems are drawn anew with replacement; the interval runs between the quantiles
    ``(1 - level) / 2`` and ``(1 + level) / 2`` of the statistic (Efron and Tibshirani 1993,
    chapter 13). It stays within the possible values and exists for every sample, which the
    bias-corrected kinds do not promise.

    One problem says nothing of the spread between problems: both ends are NaN, so that no
    comparison with them holds. Problems that are all equal give an interval of no width: it knows
    nothing of what they do not show (an accuracy of 0 on n problems is compatible with up to
    about 3 / n).

    Args:
        samples: [n], one number a problem.
        statistic: see ``Statistic``.

    Raises:
        ValueError: there are no samples, or more than one number a problem.
    """
    values = np.asarray(samples, dtype=np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"a bootstrap takes one number a problem; found shape {values.shape}")
    value = float(statistic(values, axis=-1))
    if values.size == 1:
        return Estimate(value, math.nan, math.nan, 1)
    draws = np.random.default_rng(seed).integers(values.size, size=(resamples, values.size))
    low, high = percentile_interval(statistic(values[draws], axis=-1), level)
    return Estimate(value, low, high, values.size)


def percentile_interval(replicates: ArrayLike, level: float) -> tuple[float, float]:
    """The central ``level`` of some bootstrap replicates."""
    low, high = np.quantile(np.asarray(replicates), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class OverSeeds:
    """What several seeds of one configuration came to.

    Attributes:
        values: one a seed, as measured; None for a seed that has none, such as one that never
            reached the level in question.
        estimate: over the seeds; None as soon as one has no value, for leaving it out would
            flatter the rest.
        confidence: how often such an interval covers the centre of a symmetric distribution, at
            most. A bootstrap never leaves the range of its values, and the range of n values misses
            the centre with probability 2^(1 - n): 3 seeds give 0.75 at best, and 6 are the fewest
            that can give 0.95.
    """

    values: tuple[float | None, ...]
    estimate: Estimate | None
    confidence: float


def over_seeds(
    values: Sequence[float | None], statistic: Statistic = np.mean, *, level: float = 0.95
) -> OverSeeds:
    """A statistic over seeds, with its bootstrap percentile interval and what that is worth.

    Raises:
        ValueError: there are no seeds.
    """
    measured = [value for value in values if value is not None]
    whole = len(measured) == len(values)
    return OverSeeds(
        tuple(values),
        bootstrap(measured, statistic, level=level) if whole else None,
        min(level, 1 - 2.0 ** (1 - len(values))),
    )
