"""Contexts from a file, which nobody rewrites: to train weights under contexts that were found
elsewhere, or to compare a search with what it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from fastslow.config import Section
from fastslow.errors import InputError
from fastslow.fast.base import Evolution, FastLearner, FastPhase, Tools
from fastslow.fast.memo import Memo
from fastslow.fast.outcome import conclude
from fastslow.fast.registry import fast_learner
from fastslow.places import Place
from fastslow.regular import read_text
from fastslow.types import Candidate, Context, Demonstration

_MAX_BYTES = 2**26


class FrozenOptions(Section):
    """``[fast.frozen]``"""

    path: Place
    """A file of JSON lines, each a context with ``instructions`` and ``demonstrations``, such as a
    run's contexts.jsonl. Of a run's file the contexts that its last fast phase kept are taken."""


@fast_learner("frozen")
@dataclass(frozen=True)
class Frozen(FastLearner):
    """The contexts of a file, ranked anew on the anchors of each cycle."""

    Options = FrozenOptions

    contexts: tuple[Context, ...]
    population: int

    @classmethod
    def build(cls, options: FrozenOptions, tools: Tools) -> Frozen:
        contexts = read_contexts(Path(options.path))
        return cls(contexts[: tools.config.population], tools.config.population)

    @classmethod
    def files(cls, options: FrozenOptions) -> Mapping[str, Path]:
        return {"fast.frozen.path": Path(options.path)}

    def max_calls(self, anchors: int) -> int:
        return len(self.contexts) * anchors

    def evolve(self, phase: FastPhase) -> Evolution:
        memo = Memo(phase.evaluate)
        anchors = phase.anchors
        fair = [c for c in self.contexts if not phase.leaks.given_away_by(c)]
        old = {c.context.digest: c for c in phase.population.candidates}
        candidates = [old.get(c.digest, Candidate(c, origin=self.name)) for c in fair]
        if not candidates:
            raise InputError(
                "fast.frozen.path: every context of the file gives away a problem that it would be "
                "used for: take contexts that were found on other problems"
            )
        memo([(problem, candidate.context) for candidate in candidates for problem in anchors])
        return conclude(
            candidates,
            memo,
            previous=len(candidates),
            population=self.population,
            anchors=anchors,
            scored=anchors,
        )


class _Turn(BaseModel):
    question: str
    answer: str
    problem_id: str | None = None


class _Row(BaseModel):
    """A line of the file. Other keys of a run's contexts.jsonl are passed over."""

    instructions: str
    demonstrations: Annotated[list[_Turn], Field(max_length=1000)] = []
    phase_cycle: int = -1
    kept: bool = True
    rank: int = 10**9

    @property
    def context(self) -> Context:
        turns = (Demonstration(t.question, t.answer, t.problem_id) for t in self.demonstrations)
        return Context(self.instructions, tuple(turns))


def read_contexts(path: Path) -> tuple[Context, ...]:
    """The contexts of a file of JSON lines, each once.

    Raises:
        InputError: the file cannot be read, a line is no context, or there is none.
    """
    try:
        lines = read_text(path, _MAX_BYTES).split("\n")
    except (OSError, ValueError) as error:
        raise InputError(f"fast.frozen.path: {path}: cannot be read: {error}") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rows.append(_Row.model_validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise InputError(
                f"fast.frozen.path: {path}, line {number}: {key}: {first['msg']}; expected a "
                'context such as {"instructions": "...", "demonstrations": []}'
            ) from None
    last = max((row.phase_cycle for row in rows), default=-1)
    kept = sorted((r for r in rows if r.phase_cycle == last and r.kept), key=lambda row: row.rank)
    contexts = {row.context.digest: row.context for row in kept}
    if not contexts:
        raise InputError(f"fast.frozen.path: {path}: holds no context")
    return tuple(contexts.values())
