"""A proposer that needs no other model: it shows the policy how problems it fails are solved."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fastslow.fast.base import FastPhase, Tools
from fastslow.fast.proposer import Proposer, proposer
from fastslow.types import Context, Demonstration, Problem, Rollout


@proposer("demonstrations")
@dataclass(frozen=True)
class DemonstrationProposer(Proposer):
    """Adds, swaps or drops demonstration turns, at random; drops one where nothing failed.

    Turns are made of pool problems that the parent fails, and of their reference answers. A few
    pool problems are tried under the parent; if it fails them all, the rest of the pool is taken
    to be no easier and serves as well.

    How many turns change at once is a power of two. A parent that scored nothing on its whole
    minibatch has nothing to lose, so at least half of the turns that could change do: small models
    take up a format from several turns together, and from one turn not at all.

    Attributes:
        max_turns: demonstrations in one context, at most.
        max_tokens: tokens of all demonstrations of one context together, at most.
        probe: pool problems tried under the parent before each proposal.
    """

    max_turns: int
    max_tokens: int
    probe: int
    name: str = "demonstrations"

    @classmethod
    def build(cls, tools: Tools) -> DemonstrationProposer:
        limits = tools.config.demonstrations
        return cls(limits.max_turns, limits.max_tokens, limits.probe)

    @property
    def metric_calls(self) -> int:
        return self.probe

    def propose(
        self, parent: Context, examples: Sequence[Rollout], phase: FastPhase, rng: random.Random
    ) -> Context | None:
        turns = parent.demonstrations
        room = self.max_turns - len(turns)
        move = rng.choice([*["add"] * (room > 0), *["swap", "drop"] * bool(turns)])
        material = [] if move == "drop" else self._failed(parent, phase, rng)
        if not material:
            return replace(parent, demonstrations=_without(turns, 1, rng)) if turns else None
        bold = all(rollout.reward == 0 for rollout in examples)
        limit = min(room if move == "add" else len(turns), len(material))
        count = _step(limit, bold, rng)
        kept = turns if move == "add" else _without(turns, count, rng)
        return self._extended(replace(parent, demonstrations=kept), material, count, phase)

    def _failed(self, parent: Context, phase: FastPhase, rng: random.Random) -> list[Problem]:
        """Pool problems that the parent does not solve, the worst first."""
        usable = [
            problem
            for problem in phase.pool
            if not parent.shows(problem) and phase.demonstrate(problem) is not None
        ]
        rng.shuffle(usable)
        probed = usable[: self.probe]
        rollouts = phase.evaluate([(problem, parent) for problem in probed])
        rewards = {rollout.problem.id: rollout.reward for rollout in rollouts if rollout.is_graded}
        graded = [problem for problem in probed if problem.id in rewards]
        failed = sorted((p for p in graded if rewards[p.id] < 1), key=lambda p: rewards[p.id])
        return failed + usable[self.probe :] if len(failed) == len(graded) else failed

    def _extended(
        self, context: Context, material: Sequence[Problem], count: int, phase: FastPhase
    ) -> Context:
        """``context`` with up to ``count`` turns made of ``material``, as far as tokens allow."""

        def tokens(turn: Demonstration) -> int:
            return phase.count_tokens(turn.question) + phase.count_tokens(turn.answer)

        left = self.max_tokens - sum(map(tokens, context.demonstrations))
        wanted = len(context.demonstrations) + count
        for problem in material:
            if len(context.demonstrations) == wanted:
                break
            answer = phase.demonstrate(problem)
            if answer is None or context.shows(problem):  # the pool may hold a question twice
                continue
            turn = Demonstration(problem.question, answer, problem.id)
            if tokens(turn) <= left:
                left -= tokens(turn)
                context = replace(context, demonstrations=(*context.demonstrations, turn))
        return context


def _step(limit: int, bold: bool, rng: random.Random) -> int:
    """How many turns to change: 1, 2, 4, ... up to ``limit``, and at least half of it if bold."""
    sizes = [1 << power for power in range(limit.bit_length())]
    return rng.choice([size for size in sizes if not bold or 2 * size >= limit])


def _without(
    turns: tuple[Demonstration, ...], count: int, rng: random.Random
) -> tuple[Demonstration, ...]:
    dropped = set(rng.sample(range(len(turns)), count))
    return tuple(turn for index, turn in enumerate(turns) if index not in dropped)
