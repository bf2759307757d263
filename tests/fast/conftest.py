"""A toy world: a policy whose chance to solve a problem depends on the context alone."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from fastslow.fast.base import FastPhase
from fastslow.testing import rollout, turn
from fastslow.types import Candidate, Context, Failure, Pair, Population, Problem, Rollout, Verdict


def problems(prefix: str, count: int) -> list[Problem]:
    return [Problem(f"{prefix}{i}", f"What is {prefix} of {i}?", i) for i in range(count)]


@dataclass
class World:
    """Grades by ``skill(context)``, the probability to solve any problem; keeps what was asked."""

    skill: Callable[[Context], float]
    fails: Callable[[Problem, Context], bool] = lambda problem, context: False
    calls: list[list[Pair]] = field(default_factory=list)

    @property
    def asked(self) -> list[tuple[str, str]]:
        return [(p.id, c.digest) for call in self.calls for p, c in call]

    def evaluate(self, pairs: list[Pair]) -> list[Rollout]:
        for problem, context in pairs:
            assert not context.shows(problem), f"{context} gives {problem} away"
        self.calls.append(list(pairs))
        return [self._rollout(problem, context) for problem, context in pairs]

    def _rollout(self, problem: Problem, context: Context) -> Rollout:
        luck = random.Random(f"{problem.id} {context.digest}").random()
        score = float(luck < self.skill(context))
        text = f"I guess {problem.reference}"
        verdict: Verdict | Failure = Verdict(score, f"expected {problem.reference}")
        if self.fails(problem, context):
            verdict = Failure("it raised ValueError")
        return rollout(problem, context, verdict, turn(text))

    def phase(
        self,
        anchors: list[Problem] | int = 12,
        pool: list[Problem] | int = 16,
        population: Population | None = None,
        cycle: int = 0,
        seed: int = 0,
    ) -> FastPhase:
        return FastPhase(
            cycle=cycle,
            population=population or Population((Candidate(Context("Answer.")),)),
            anchors=problems("anchor", anchors) if isinstance(anchors, int) else anchors,
            pool=problems("pool", pool) if isinstance(pool, int) else pool,
            evaluate=self.evaluate,
            demonstrate=lambda problem: f"<answer>{problem.reference}</answer>",
            count_tokens=lambda text: len(text.split()),
            seed=seed,
        )


@pytest.fixture
def by_turns() -> World:
    """A policy that takes up the format from four demonstrations, as small models do."""
    return World(lambda context: (0.0, 0.0, 0.0, 0.1, 0.5)[min(len(context.demonstrations), 4)])


@pytest.fixture
def world() -> type[World]:
    return World
