"""What a fast learner is: it rewrites a population of contexts while theta stands still."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from fastslow.config import FastConfig, Section
from fastslow.fast.leaks import Leaks
from fastslow.types import Candidate, Context, Pair, Population, Problem, Rollout

log = logging.getLogger("fastslow.fast")

Evaluate = Callable[[Sequence[Pair]], list[Rollout]]
"""Samples and grades ONE rollout per (problem, context) pair, in order, under the current policy.
A rollout on which the verifier failed has no reward: its pair goes without a score.

Every pair costs one metric call. Calling it with a context that shows the problem is an error."""


@dataclass(frozen=True)
class FastPhase:
    """What one fast phase is given.

    Attributes:
        cycle: number of the cycle, from 0.
        population: the previous population, or the seed context alone.
        anchors: the problems of the next T batches; no context of the population gives any of them
            away.
        pool: training problems that no slow step asks: demonstrations are made of these.
        evaluate: the only way to the policy.
        demonstrate: the reference answer of a problem in the format that the verifier wants, or
            None if the task has none.
        count_tokens: length in tokens of a text under the policy's tokenizer.
        seed: every random choice of the phase is derived from it.
    """

    cycle: int
    population: Population
    anchors: Sequence[Problem]
    pool: Sequence[Problem]
    evaluate: Evaluate
    demonstrate: Callable[[Problem], str | None]
    count_tokens: Callable[[str], int]
    seed: int

    def __post_init__(self) -> None:
        """Keep each anchor once: data sets repeat easy problems."""
        once = list({problem.id: problem for problem in self.anchors}.values())
        object.__setattr__(self, "anchors", once)

    @cached_property
    def leaks(self) -> Leaks:
        """Finds the anchors that a context gives away."""
        return Leaks(self.anchors, self.pool)

    def refuse_leaks(self, context: Context, name: str) -> bool:
        """Whether a proposed context gives no anchor away; one that does is logged.

        Args:
            context: what was proposed.
            name: of the proposer, for the log.
        """
        given_away = self.leaks.given_away_by(context)
        for problem, how in list(given_away.items())[:1]:
            others = f" and {len(given_away) - 1} more" if len(given_away) > 1 else ""
            log.warning(
                "%s: a proposed context was refused: it %s problem %r%s, which it would be scored "
                "on",
                name,
                how,
                problem,
                others,
            )
        return not given_away


@dataclass(frozen=True)
class Evolution:
    """What one fast phase gives back.

    Attributes:
        population: at most K contexts, best mean first.
        candidates: every context that was tried in this phase, in the order of their first score,
            kept or not. The kept ones are exactly those of ``population``.
        rollouts: the one rollout of each (problem id, context digest) pair, for the slow phase.
        metric_calls: how many rollouts the phase sampled; equals ``len(rollouts)`` of all pairs
            asked, anchors and pool together.
        proposals: proposals that led to a scored context.
        failed_proposals: proposals that could not be had (an unreachable reflection model, say).
    """

    population: Population
    candidates: tuple[Candidate, ...]
    rollouts: Mapping[tuple[str, str], Rollout]
    metric_calls: int
    proposals: int
    failed_proposals: int


@dataclass(frozen=True)
class Tools:
    """What a fast learner may be built from.

    Attributes:
        config: ``[fast]``, what all fast learners share.
        reflector: the reflection model, a prompt in and its answer out; None where the run has
            none. Raises ``ProposalError`` if there is no answer.
    """

    config: FastConfig
    reflector: Callable[[str], str] | None = None


class FastLearner(ABC):
    """How the population of contexts is rewritten. Deterministic given the phase, its seed and what
    ``evaluate`` returns: it keeps nothing from one phase to the next.

    Attributes:
        name: what ``[fast] algorithm`` calls it.
        Options: model of its own table, ``[fast.NAME]``.
    """

    name: ClassVar[str] = ""
    Options: ClassVar[type[Section]] = Section

    @classmethod
    @abstractmethod
    def build(cls, options: Any, tools: Tools) -> FastLearner:
        """The learner with its own options. Raises: InputError."""

    @classmethod
    def asks_reflection(cls, config: FastConfig) -> bool:
        """Whether it needs ``[fast.reflection]``."""
        return False

    @classmethod
    def files(cls, options: Any) -> Mapping[str, Path]:
        """Files that it reads, by their keys: a resumed run notices if they have changed."""
        return {}

    @abstractmethod
    def max_calls(self, anchors: int) -> int:
        """Maximum number of metric calls of a phase on so many anchors."""

    @abstractmethod
    def evolve(self, phase: FastPhase) -> Evolution:
        """One fast phase. What ``phase.evaluate`` raises ends it, unchanged."""
