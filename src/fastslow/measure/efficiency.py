"""Sample efficiency: what a run has to see and to sample before it is as good as another.

Samples are counted in three units, each with and without the fast phases, for it depends on what is
dear which of them matters:

========  ==============================  =====================================================
unit      slow phases alone               fast phases included
========  ==============================  =====================================================
problems  problems of the trained         problems of all batches passed, which are the anchors
          batches, at every visit         of fast phases too; and of each stage, from its first
                                          fast phase on, those set aside for demonstrations
rollouts  rollouts trained on, reused     rollouts freshly sampled; a reused one counts once, in
          ones among them                 the fast phase that sampled it
tokens    completion tokens of those      completion tokens of those
========  ==============================  =====================================================

Neither includes evaluations, nor what a reflection model reads and writes. Problems set aside are
asked and shown with their answers, so they have been seen, but no slow step trains on them: each
counts once, and all of ``fast.pool``, though a split of fewer than four times as many holds fewer.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

from fastslow.measure.matched import at_reward
from fastslow.run.record import Row, RunRecord

Unit = Literal["problems", "rollouts", "tokens"]
UNITS: tuple[Unit, ...] = ("problems", "rollouts", "tokens")


@dataclass(frozen=True)
class Samples:
    """What was seen and sampled up to some moment, in each unit. NaN: it was not measured."""

    problems: float = 0
    rollouts: float = 0
    tokens: float = 0


@dataclass(frozen=True)
class Curve:
    """How good a run was by what it had cost until then.

    Attributes:
        steps: [n] slow steps done when the reward was measured, rising.
        rewards: [n] in [0, 1].
        samples: [n] of the slow phases until then.
        samples_with_fast: [n] of both phases until then.
    """

    steps: Sequence[int]
    rewards: Sequence[float]
    samples: Sequence[Samples]
    samples_with_fast: Sequence[Samples]

    @property
    def peak(self) -> float | None:
        """The best reward: how far the run came. None where nothing was measured."""
        return max(self.rewards, default=None)

    def counts(self, unit: Unit, include_fast: bool) -> list[float]:
        """[n] samples in one unit, as an x axis."""
        samples = self.samples_with_fast if include_fast else self.samples
        return [getattr(some, unit) for some in samples]


def learning_curve(
    run: RunRecord,
    context: str | None = None,
    task: str | None = None,
    phase: Literal["eval", "slow"] = "eval",
) -> Curve:
    """The rewards of a run's evaluations, or of its training batches, by the samples before them.

    A training batch was sampled by the policy as it was before it, so its own rollouts do not count
    as its cost. Samples are those of the whole run, whatever tasks it has.

    Args:
        context: of evaluations (see ``RunRecord.evaluations``).
        task: the name of one of the run's tasks. None: the last stage's task for evaluations, and
            the mean over the batch for training batches.

    Returns:
        A curve without points where nothing of the kind was measured.
    """
    if phase == "eval":
        measure, chosen = "accuracy", run.evaluations(context, task)
    else:
        measure = "reward/mean" if task is None else f"reward/mean/{task}"
        chosen = [row for row in run.rows("slow") if measure in row]
    wanted = set(map(id, chosen))
    points = [point for point in _spending(run) if id(point[0]) in wanted]
    return Curve(
        steps=[row["step"] - (phase == "slow") for row, _, _ in points],
        rewards=[row[measure] for row, _, _ in points],
        samples=[slow for _, slow, _ in points],
        samples_with_fast=[both for _, _, both in points],
    )


def samples_to_reach(curve: Curve, level: float, unit: Unit, include_fast: bool) -> float | None:
    """Samples after which a run's best reward so far first reached ``level``.

    Between two evaluations it is taken to grow with the samples (see ``at_reward``). None if the
    run never got there; ``curve.peak`` says how far it came.
    """
    return at_reward(curve.rewards, curve.counts(unit, include_fast), level)


@dataclass(frozen=True)
class Efficiency:
    """What a run needed to be as good as another at its best.

    Attributes:
        level: the peak of the other run, the reward to reach.
        needed: samples that the run needed; None if it never got there.
        other: samples that the other run needed.
        peak: the best reward of the run itself: how far it came.
    """

    level: float
    needed: float | None
    other: float
    peak: float

    @property
    def ratio(self) -> float | None:
        """How many times fewer samples the run needed: 3 for a third of them, inf for none at all.

        None if the run never got there, and if the other run was at its best before it had sampled
        anything: no training is no yardstick.
        """
        if self.needed is None or self.other == 0:
            return None
        return self.other / self.needed if self.needed else math.inf


def efficiency_ratio(curve: Curve, other: Curve, unit: Unit, include_fast: bool) -> Efficiency:
    """The samples that a run needs to reach the peak of another, beside those the other needed.

    The paper's figure on data efficiency: FST reaches the peak of RL with a third of the samples.
    The peak is the best of several noisy evaluations and so a little too high; the run that sets it
    has the benefit.

    Raises:
        ValueError: one of the curves has no points.
    """
    if curve.peak is None or other.peak is None:
        raise ValueError("sample efficiency needs a measured reward of either run; found none")
    reference = samples_to_reach(other, other.peak, unit, include_fast)
    assert reference is not None  # it does reach its own peak
    needed = samples_to_reach(curve, other.peak, unit, include_fast)
    return Efficiency(other.peak, needed, reference, curve.peak)


def _spending(run: RunRecord) -> Iterator[tuple[Row, Samples, Samples]]:
    """Every row of a run's metrics with what the slow phases, and both, had cost before it."""
    slow = fresh = Samples()
    config, evolved = run.config, set[int]()
    pool = config.fast.pool if config.reserves_pool else 0
    ends = list(accumulate(stage.steps for stage in config.all_stages))
    for row in run.metrics:
        batches = row["step"] - (row["phase"] == "slow")
        seen = batches * config.slow.problems + len(evolved) * pool
        yield row, slow, replace(fresh, problems=seen)
        if row["phase"] == "slow":
            slow = _plus(slow, _trained(row))
        if row["phase"] != "eval":
            fresh = _plus(fresh, _sampled(row))
        if row["phase"] == "fast":
            evolved.add(bisect_right(ends, row["step"]))  # the number of the stage


def _sampled(row: Row) -> Samples:
    return Samples(rollouts=_told(row, "rollouts/sampled"), tokens=_told(row, "tokens/sampled"))


def _trained(row: Row) -> Samples:
    """What a slow step was made of, whoever had sampled it."""
    sampled, reused = _sampled(row), _told(row, "rollouts/reused")
    return Samples(
        problems=_told(row, "groups/kept") + _told(row, "groups/dropped"),
        rollouts=sampled.rollouts + reused,
        tokens=sampled.tokens + (_told(row, "tokens/reused") if reused else 0),
    )


def _told(row: Row, measure: str) -> float:
    return float(row.get(measure, math.nan))


def _plus(a: Samples, b: Samples) -> Samples:
    return Samples(a.problems + b.problems, a.rollouts + b.rollouts, a.tokens + b.tokens)
