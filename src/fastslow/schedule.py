"""The schedule of a run: its stages, its cycles, and what is due at each step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fastslow.data import BatchOrder
from fastslow.types import Problem


@dataclass(frozen=True)
class Stage:
    """A stretch of the run on some tasks, named: the slow steps from ``start`` to ``stop``."""

    tasks: tuple[str, ...]
    order: BatchOrder
    start: int
    stop: int


@dataclass(frozen=True)
class Step:
    """One slow step, and what is due around it.

    Attributes:
        number: steps of the run that are done before it.
        stage: the stage that it belongs to.
        cycle: batches of the cycle that it begins, its own first; empty within a cycle.
        seen: names of the tasks of all stages up to this one.
        ends_cycle: whether it is the last of its cycle.
        evaluation_due: whether the policy is evaluated before it.
        checkpoint_due: whether the run is saved after it.
    """

    number: int
    stage: Stage
    cycle: Sequence[Sequence[Problem]]
    seen: tuple[str, ...]
    ends_cycle: bool
    evaluation_due: bool
    checkpoint_due: bool

    @property
    def batch(self) -> list[Problem]:
        """The problems that it trains on."""
        return self.stage.order.batch(self.number - self.stage.start)


@dataclass(frozen=True)
class Schedule:
    """Steps of a run; pure, so that a resumed run follows the same one.

    A cycle is T steps; the last cycle of a stage may be shorter.

    Attributes:
        stages: in order, without gaps.
        every: T, steps of a cycle.
        evaluate_every: steps between evaluations, counted from the beginning of each stage.
        checkpoint_every: steps between checkpoints; None: at the end of each cycle.
    """

    stages: Sequence[Stage]
    every: int
    evaluate_every: int
    checkpoint_every: int | None = None

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks of all stages."""
        return tuple(task for stage in self.stages for task in stage.tasks)

    def steps(self, start: int) -> Iterator[Step]:
        """The steps of the run, from step ``start`` on."""
        for stage in self.stages:
            for number in range(max(start, stage.start), stage.stop):
                yield self._step(number, stage)

    def _step(self, number: int, stage: Stage) -> Step:
        done, after = number - stage.start, number + 1
        steps = min(self.every, stage.stop - number) if done % self.every == 0 else 0
        ends_cycle = (done + 1) % self.every == 0 or after == stage.stop
        saves = after % self.checkpoint_every == 0 if self.checkpoint_every else ends_cycle
        return Step(
            number=number,
            stage=stage,
            cycle=stage.order.lookahead(done, steps),
            seen=tuple(t for other in self.stages if other.start <= number for t in other.tasks),
            ends_cycle=ends_cycle,
            evaluation_due=done % self.evaluate_every == 0,
            checkpoint_due=saves or after == self.stages[-1].stop,
        )
