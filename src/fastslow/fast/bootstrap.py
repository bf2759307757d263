"""Random sets of demonstrations, raced against each other by successive halving.

Random search over demonstrations is DSPy's BootstrapFewShotWithRandomSearch (arXiv 2310.03714);
the race is successive halving (arXiv 1502.07943): all sets are tried on a few anchors, the better
half on twice as many, and so on. It needs no gate on single rollouts, so it finds good sets where
nearly every context fails.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from fastslow.config import Section, Size
from fastslow.errors import InputError
from fastslow.fast.base import Evolution, FastLearner, FastPhase, Tools
from fastslow.fast.memo import Memo
from fastslow.fast.outcome import conclude
from fastslow.fast.registry import fast_learner
from fastslow.types import Candidate, Context, Demonstration, Problem


class BootstrapOptions(Section):
    """``[fast.bootstrap]``"""

    sets: Size = 16
    """Number of random sets of demonstrations that enter the race of one fast phase."""
    first: Size = 4
    """Number of anchors that every set is tried on in the first round. Each round doubles it and
    keeps the better half of the sets."""


@fast_learner("bootstrap")
@dataclass(frozen=True)
class Bootstrap(FastLearner):
    """Races random sets of demonstrations for the places beside the best old contexts."""

    Options = BootstrapOptions

    options: BootstrapOptions
    tools: Tools

    @classmethod
    def build(cls, options: BootstrapOptions, tools: Tools) -> Bootstrap:
        if tools.config.pool == 0 or "demonstrations" not in tools.config.components:
            raise InputError(
                'fast.algorithm = "bootstrap" makes demonstrations of problems set aside: set '
                'fast.pool to at least 1 and name "demonstrations" in fast.components'
            )
        return cls(options, tools)

    def max_calls(self, anchors: int) -> int:
        old = self.tools.config.population * anchors
        return old + sum(sets * new for sets, new in _rounds(self.options, anchors))

    def evolve(self, phase: FastPhase) -> Evolution:
        memo = Memo(phase.evaluate)
        anchors = phase.anchors
        old = list(phase.population.candidates)
        memo([(problem, candidate.context) for candidate in old for problem in anchors])
        rng = random.Random(f"bootstrap {phase.seed}")
        order = rng.sample(anchors, len(anchors))
        racing = self._draw(phase, rng)
        tried = list(racing)
        done = 0
        for places, new in _rounds(self.options, len(anchors)):
            racing = racing[:places]
            memo([(p, c.context) for c in racing for p in order[done : done + new]])
            done += new
            racing = sorted(racing, key=lambda c: -_total(memo, c.context, order[:done]))
        return conclude(
            [*old, *tried],
            memo,
            previous=len(old),
            population=self.tools.config.population,
            anchors=anchors,
            scored=anchors,
        )

    def _draw(self, phase: FastPhase, rng: random.Random) -> list[Candidate]:
        """Different random sets of demonstrations under the best context's instructions."""
        parent = phase.population.best.context
        known = set(phase.population.digests)
        drawn: dict[str, Candidate] = {}
        for _ in range(2 * self.options.sets):  # some are drawn twice, or give an anchor away
            context = self._fill(parent.instructions, phase, rng)
            if context.digest in known or phase.leaks.given_away_by(context):
                continue
            drawn[context.digest] = Candidate(
                context, parents=(parent.digest,), origin=self.name, cycle=phase.cycle
            )
            if len(drawn) == self.options.sets:
                break
        return list(drawn.values())

    def _fill(self, instructions: str, phase: FastPhase, rng: random.Random) -> Context:
        """A context with a random number of random demonstrations, as far as tokens allow."""
        limits = self.tools.config.demonstrations
        count = rng.randint(1, limits.max_turns)
        left = limits.max_tokens
        turns: list[Demonstration] = []
        for problem in rng.sample(list(phase.pool), len(phase.pool)):
            if len(turns) == count:
                break
            answer = phase.demonstrate(problem)
            if answer is None or Context("", tuple(turns)).shows(problem):
                continue
            tokens = phase.count_tokens(problem.question) + phase.count_tokens(answer)
            if tokens <= left:
                left -= tokens
                turns.append(Demonstration(problem.question, answer, problem.id))
        return Context(instructions, tuple(turns))


def _rounds(options: BootstrapOptions, anchors: int) -> list[tuple[int, int]]:
    """Of each round the number of sets in the race, and the number of anchors that are new to
    them; at least one set gets to all anchors."""
    rounds: list[tuple[int, int]] = []
    sets, done, target = options.sets, 0, min(options.first, anchors)
    while done < anchors:
        rounds.append((sets, target - done))
        done, target = target, min(2 * target, anchors)
        sets = max(1, math.ceil(sets / 2))
    return rounds


def _total(memo: Memo, context: Context, problems: Sequence[Problem]) -> float:
    """Sum of the scores on these problems, as far as the verifier gave one."""
    rollouts = (memo.rollouts.get((problem.id, context.digest)) for problem in problems)
    return math.fsum(r.reward for r in rollouts if r is not None and r.is_graded)
