"""Where a learning curve would end: the sigmoid of ScaleRL, or why it cannot be told.

    R - R0 = (A - R0) / (1 + (C_mid / C)^B)

R0 is the reward before training, A the asymptote, C_mid the samples after which half of the rise is
done, B the steepness (arXiv 2510.13786, Eq. 1). Their appendix A.5 lays a grid over A and C_mid,
fits B by least squares in each cell, and keeps the cell with the smallest squared error, leaving
out the first part of the run. The same error is minimised here on a grid over C_mid and B, scaled
to the data: in A the curve is linear, so that its best value in every cell has a closed form, and
all resamples of a bootstrap are fitted at once. From the best cell the fit goes on by least squares
in all three.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastslow.measure.intervals import Estimate, percentile_interval

Array = NDArray[np.float64]

PARAMETERS = 3
"""A, C_mid and B; R0 is measured."""

FEWEST_POINTS = 2 * PARAMETERS

CEILING = 1.0
"""The highest reward there is: no asymptote lies above it."""

MIDPOINTS, EXPONENTS = 80, 40
"""Cells of the grid in either direction: about a tenth from one to the next."""

EXPONENT_RANGE = (0.25, 16.0)
"""From a rise over many orders of magnitude to a single step."""

MIDPOINT_MARGIN = 10.0
"""How far C_mid may lie below the first sample count that is fitted, or above the last."""


@dataclass(frozen=True)
class SigmoidFit:
    """A learning curve's sigmoid.

    Attributes:
        r0: R0, the reward before training.
        asymptote: A; its ``n`` is the number of points that were fitted.
        midpoint: C_mid in samples. Where the rise was over before the first point, an upper bound.
        exponent: B.
        residual: standard deviation of the points around the curve, in units of reward.
    """

    r0: float
    asymptote: Estimate
    midpoint: float
    exponent: float
    residual: float

    def predict(self, samples: ArrayLike) -> Array:
        """The curve at some numbers of samples, of any shape; R0 at 0."""
        progress = _progress(np.asarray(samples, np.float64), self.midpoint, self.exponent)
        return self.r0 + (self.asymptote.value - self.r0) * progress


@dataclass(frozen=True)
class Unidentified:
    """A learning curve that does not tell its asymptote."""

    reason: str
    """What is missing, in words and figures."""


def fit(
    samples: ArrayLike,
    rewards: ArrayLike,
    *,
    r0: float | None = None,
    skip: float = 0.1,
    level: float = 0.95,
    resamples: int = 500,
    seed: int = 0,
) -> SigmoidFit | Unidentified:
    """Fit the sigmoid to a learning curve, or say why its asymptote cannot be told.

    The interval on A is a residual bootstrap: residuals, scaled up by sqrt(n / (n - 3)) for the
    parameters fitted, are drawn anew onto the curve and onto R0, and the curve is fitted again. (A
    bootstrap of pairs would drop the last point in every third resample, and the last points alone
    tell the asymptote: a learning curve's samples are a design, not a draw.) On synthetic sigmoids
    of 15 to 40 points with a noise of 0.02 to 0.04 the intervals of 95 % covered A in 91 to 96 % of
    250 curves each.

    It covers the noise of the evaluations around the curve, taken as independent. It does not cover
    the choice of problems, which all points share, nor another seed (for those, fit several seeds),
    nor a curve that is no sigmoid: a logarithm's beginning looks like one.

    Args:
        samples: [n] samples so far (see ``efficiency.Curve.counts``), rising.
        rewards: [n] in [0, 1].
        r0: the reward before training. None: the first of ``rewards``, which is not fitted then.
        skip: points within this share of the samples are left out: the start is no sigmoid.

    Returns:
        Unidentified if samples or rewards are not finite, if there are fewer than 6 points, if the
        rewards do not rise or have no room to, if the curve has not bent yet, if only the highest
        possible reward bounds it, or if the interval on A is wider than the whole rise seen.

    Raises:
        ValueError: samples and rewards are no two lists of one length, or samples do not rise.
    """
    x, y = np.asarray(samples, np.float64), np.asarray(rewards, np.float64)
    if x.ndim != 1 or x.shape != y.shape or np.any(np.diff(x) < 0):
        raise ValueError(
            f"a fit takes as many rewards as samples, and samples that rise; found {x} and {y}"
        )
    if not np.isfinite(x).all():
        return Unidentified("how many samples it took was not counted")
    if not np.isfinite(y).all():
        return Unidentified(f"rewards that are not finite: {np.sum(~np.isfinite(y))} of {y.size}")
    kept = x > skip * x.max(initial=0.0)
    if r0 is None:
        kept[:1] = False
        r0 = float(y[0]) if y.size else math.nan
    x, y = x[kept], y[kept]
    if x.size < FEWEST_POINTS:
        return Unidentified(
            f"{x.size} rewards after the first {skip:.0%} of the samples are too few: the sigmoid "
            f"has {PARAMETERS} parameters and takes at least {FEWEST_POINTS} points"
        )
    if r0 >= CEILING:
        return Unidentified(f"the reward before training, {r0:.3f}, is the highest possible")

    grid = _Grid.over(x)
    rise, midpoint, exponent = _polish(grid, x, y, r0)
    curve = r0 + rise * _progress(x, midpoint, exponent)
    residuals = (y - curve) * math.sqrt(x.size / (x.size - PARAMETERS))
    rises, asymptotes = _resample(grid, curve, residuals, r0, resamples, seed)

    low, high = percentile_interval(asymptotes, level)
    found = SigmoidFit(
        r0=r0,
        asymptote=Estimate(r0 + rise, low, high, x.size),
        midpoint=midpoint,
        exponent=exponent,
        residual=float(np.sqrt(np.mean(residuals**2))),
    )
    least = percentile_interval(rises, level)[0]
    reason = _doubt(found, float(x[-1]), rising=least > 1e-9, bent=_bends(x, y, r0, curve, level))
    return found if reason is None else Unidentified(reason)


def _bends(x: Array, y: Array, r0: float, curve: Array, level: float) -> bool:
    """Whether the sigmoid explains the points better than a straight line from R0 does.

    The F test of its two further parameters: with two, the quantile of F has a closed form.
    """
    line = r0 + x * (x @ (y - r0)) / (x @ x)
    worth = (1 - level) ** (-2 / (x.size - PARAMETERS))
    return bool(np.sum((y - line) ** 2) > worth * np.sum((y - curve) ** 2))


def _doubt(found: SigmoidFit, last: float, rising: bool, bent: bool) -> str | None:
    """Why the asymptote cannot be told from a curve that ends after ``last`` samples, if so."""
    a, reached = found.asymptote, float(found.predict(last))
    seen = reached - found.r0
    if not rising:
        return (
            f"the rewards do not rise: from {found.r0:.3f} to {reached:.3f}, which is within the "
            f"noise of {found.residual:.3f}"
        )
    if found.midpoint > last:
        return (
            f"the curve has not bent yet: half of the rise would be done after "
            f"{found.midpoint:.3g} samples, and it ends after {last:.3g}"
        )
    if not bent:
        return (
            f"the curve has not bent yet: up to {reached:.3f} after {last:.3g} samples, a straight "
            "line explains it as well"
        )
    if a.value >= CEILING - 0.005 and seen < 0.9 * (a.value - found.r0):
        return (
            f"only the highest possible reward, {CEILING:g}, bounds the asymptote: the curve ends "
            f"at {reached:.3f} and still rises as if there were no bound"
        )
    if a.high - a.low > seen:
        return (
            f"the asymptote may lie anywhere from {a.low:.3f} to {a.high:.3f}, which is wider than "
            f"the rise seen, {seen:.3f}"
        )
    return None


@dataclass(frozen=True)
class _Grid:
    """Shapes of the curve: the share of the rise that is done at each point.

    Attributes:
        midpoints: [cells] C_mid.
        exponents: [cells] B.
        progress: [cells, n].
    """

    midpoints: Array
    exponents: Array
    progress: Array

    @classmethod
    def over(cls, x: Array) -> _Grid:
        """The grid for points at ``x`` samples, all above 0."""
        midpoints, exponents = np.meshgrid(
            np.geomspace(x[0] / MIDPOINT_MARGIN, x[-1] * MIDPOINT_MARGIN, MIDPOINTS),
            np.geomspace(*EXPONENT_RANGE, EXPONENTS),
        )
        m, b = midpoints.ravel(), exponents.ravel()
        return cls(m, b, _progress(x, m[:, None], b[:, None]))

    def fit(self, gains: Array, room: Array) -> tuple[Array, NDArray[np.intp]]:
        """The best rise A - R0 of each curve, and its cell.

        Args:
            gains: [curves, n] R - R0.
            room: [curves, 1] the highest rise possible.
        """
        products = gains @ self.progress.T
        squares = np.sum(self.progress**2, axis=1)
        rises = np.clip(products / squares, 0.0, room)
        errors = (rises * squares - 2.0 * products) * rises  # beside the squares of the gains
        best = np.argmin(errors, axis=1)
        return np.take_along_axis(rises, best[:, None], axis=1)[:, 0], best


def _polish(grid: _Grid, x: Array, y: Array, r0: float) -> tuple[float, float, float]:
    """A - R0, C_mid and B of the smallest squared error, from the best cell of the grid."""
    from scipy.optimize import least_squares

    rises, cells = grid.fit((y - r0)[None], np.array([[CEILING - r0]]))
    start = [rises[0], math.log(grid.midpoints[cells[0]]), math.log(grid.exponents[cells[0]])]
    low = [0.0, math.log(grid.midpoints[0]), math.log(grid.exponents[0])]
    high = [CEILING - r0, math.log(grid.midpoints[-1]), math.log(grid.exponents[-1])]

    def residuals(parameters: Array) -> Array:
        rise, midpoint, exponent = map(float, parameters)
        return r0 + rise * _progress(x, math.exp(midpoint), math.exp(exponent)) - y

    rise, midpoint, exponent = least_squares(residuals, start, bounds=(low, high)).x
    return float(rise), math.exp(midpoint), math.exp(exponent)


def _resample(
    grid: _Grid, curve: Array, residuals: Array, r0: float, resamples: int, seed: int
) -> tuple[Array, Array]:
    """[resamples] rises A - R0 and asymptotes A of curves with their noise drawn anew."""
    draws = np.random.default_rng(seed).choice(residuals, size=(resamples, curve.size + 1))
    starts = np.clip(r0 + draws[:, :1], 0.0, CEILING)
    rises, _ = grid.fit(curve + draws[:, 1:] - starts, CEILING - starts)
    return rises, starts[:, 0] + rises


def _progress(x: Array, midpoint: Array | float, exponent: Array | float) -> Array:
    """1 / (1 + (C_mid / C)^B), and 0 at C = 0."""
    powers = (x / midpoint) ** exponent
    return np.asarray(powers / (1.0 + powers))
