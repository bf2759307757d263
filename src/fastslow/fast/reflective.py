"""What fast learners share that have a language model write instructions."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Self

from fastslow.config import FastConfig, Section, Size
from fastslow.errors import InputError
from fastslow.fast.adapter import AnchorSets
from fastslow.fast.base import Evolution, FastLearner, FastPhase, Tools
from fastslow.fast.memo import Memo
from fastslow.fast.outcome import conclude
from fastslow.fast.proposer import ProposalError
from fastslow.types import Candidate, Context, Rollout

log = logging.getLogger("fastslow.fast")


class ReflectiveOptions(Section):
    """Options that these learners share. Each sets its own defaults."""

    steps: Size = 4
    """Number of rounds in one fast phase; each asks for proposals with the scores known by then."""
    each: Size = 4
    """Number of proposals in one round, scored together."""
    examples: Size = 3
    """Number of anchors that the language model is shown. Their scores do not count."""


class Reflective(FastLearner):
    """In each round, asks for some new contexts and scores all of them in one batch.

    Args:
        options: the learner's own table.
        config: ``[fast]``.
        ask: the reflection model, a prompt in and its answer out.
    """

    Options: ClassVar[type[ReflectiveOptions]] = ReflectiveOptions

    def __init__(
        self, options: ReflectiveOptions, config: FastConfig, ask: Callable[[str], str]
    ) -> None:
        self.options = options
        self.ask = ask
        self.population = config.population
        self.max_characters = config.reflection.max_characters

    @classmethod
    def build(cls, options: ReflectiveOptions, tools: Tools) -> Self:
        if tools.reflector is None:
            raise InputError(
                f'fast.algorithm = "{cls.name}" needs a model to write instructions: set '
                'fast.reflection.model (a litellm name, "policy" or "python")'
            )
        return cls(options, tools.config, tools.reflector)

    @classmethod
    def asks_reflection(cls, config: FastConfig) -> bool:
        return True

    def max_calls(self, anchors: int) -> int:
        return (self.population + self.options.steps * self.options.each) * anchors

    @abstractmethod
    def write(
        self, best: Context, tried: Sequence[Candidate], seen: Sequence[Rollout]
    ) -> Context | None:
        """A variation of the best context; None where the language model's answer gives none.

        Args:
            best: the best context so far.
            tried: all contexts so far, with their scores.
            seen: graded rollouts of the best one on the anchors that may be shown.

        Raises:
            ProposalError: there is no answer. The phase goes on without the proposal.
        """

    def evolve(self, phase: FastPhase) -> Evolution:
        memo = Memo(phase.evaluate)
        sets = AnchorSets.split(phase.anchors, self.options.examples, phase.seed)
        old = list(phase.population.candidates)
        tried = {candidate.context.digest: candidate for candidate in old}
        memo([(problem, candidate.context) for candidate in old for problem in phase.anchors])
        failed = 0

        def outcome() -> Evolution:
            return conclude(
                tried.values(),
                memo,
                previous=len(old),
                population=self.population,
                anchors=phase.anchors,
                scored=sets.scored,
                shown=sets.hidden,
                failed=failed,
            )

        for _ in range(self.options.steps):
            now = outcome()
            best = now.population.best.context
            seen = [memo.rollouts[problem.id, best.digest] for problem in sets.shown]
            graded = [rollout for rollout in seen if rollout.is_graded]
            fresh: dict[str, Candidate] = {}
            for _ in range(self.options.each):
                context = self._ask(best, now.candidates, graded)
                if context is None or not self._is_fair(context, phase, {**tried, **fresh}):
                    failed += 1
                    continue
                fresh[context.digest] = Candidate(
                    context, parents=(best.digest,), origin=self.name, cycle=phase.cycle
                )
            tried |= fresh
            memo([(problem, c.context) for c in fresh.values() for problem in phase.anchors])
        return outcome()

    def _ask(
        self, best: Context, tried: Sequence[Candidate], seen: Sequence[Rollout]
    ) -> Context | None:
        try:
            return self.write(best, tried, seen)
        except ProposalError as error:
            log.warning("%s: no proposal could be had: %s", self.name, error)
            return None

    def _is_fair(self, context: Context, phase: FastPhase, known: dict[str, Candidate]) -> bool:
        """Whether the context is new and gives no anchor away."""
        return context.digest not in known and phase.refuse_leaks(context, self.name)
