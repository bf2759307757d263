"""Models of the JSON files in a run's folder, with bounds for every count.

A run's folder may come from somebody else and contain anything. These models check all data that is
read from it. So later code meets no missing keys, no text in place of a number, and no count that
is too large to iterate over.
"""

from __future__ import annotations

import math
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from fastslow.errors import InputError
from fastslow.regular import read_bytes
from fastslow.run.strict_json import parse
from fastslow.types import Context, Demonstration

MAX_COUNT = 10**9
"""Limit for steps, cycles, tokens and updates: more than any run reaches."""
MAX_BYTES = 2**50
"""Limit for the size of a file that a checkpoint records."""
MAX_TEXT = 2**25
"""Limit for the characters of a text: four times the largest reply of a reflection model."""
MAX_ITEMS = 1_000_000
"""Limit for the entries of a list."""
_LAST_SECOND = 253_402_300_799
"""End of the year 9999, the last that ``datetime`` supports, in seconds since 1970."""


def _text(longest: int) -> PlainValidator:
    """Accept a text of at most ``longest`` characters. A model may write half a surrogate pair,
    which pydantic's own ``str`` rejects."""

    def validate(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(f"expected a text; found {reprlib.repr(value)}")
        if len(value) > longest:
            raise ValueError(f"expected at most {longest:,} characters; found {len(value):,}")
        return value

    return PlainValidator(validate)


Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Bytes = Annotated[int, Field(ge=0, le=MAX_BYTES)]
Name = Annotated[str, _text(4096)]
Text = Annotated[str, _text(MAX_TEXT)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=_LAST_SECOND, allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Number = Whole | float
Logprob = float | Literal["NaN", "Infinity", "-Infinity"]
Token = Annotated[int, Field(ge=0, lt=2**31)]


class Stored(BaseModel):
    """Base of the models. It converts no values and ignores unknown keys."""

    model_config = ConfigDict(strict=True)


class MetricsRow(BaseModel):
    """A row of ``metrics.jsonl``. Every key without a field here is a measure, and its value is a
    number."""

    model_config = ConfigDict(strict=True, extra="allow")
    __pydantic_extra__: dict[Name, Number | bool]

    step: Count
    cycle: Count
    phase: Literal["fast", "slow", "eval"]
    time: Seconds = 0.0
    task: Name | None = None
    split: Name | None = None
    context: Name | None = None
    skipped: Text | None = None
    """The reason why a slow step made no update."""
    accuracy: Share | None = None
    n: Count | None = None

    @model_validator(mode="after")
    def _counts_can_be_added(self) -> MetricsRow:
        for key, value in (self.__pydantic_extra__ or {}).items():
            if key.startswith(_ADDED) and not (math.isfinite(value) and 0 <= value <= MAX_BYTES):
                raise ValueError(f"{key}: expected a count or seconds; found {value!r}")
        return self

    @model_validator(mode="after")
    def _evaluations_are_whole(self) -> MetricsRow:
        needed = ("task", "context", "accuracy") if self.phase == "eval" else ()
        for key in needed:
            if getattr(self, key) is None:
                raise ValueError(f"{key}: this key is missing, which every evaluation has")
        return self


_ADDED = ("tokens/", "rollouts/", "seconds/", "problems/", "metric_calls", "proposals")
"""Prefixes of the measures that a report adds up."""


class EvaluationRow(MetricsRow):
    """A row of a study's ``evaluations.jsonl``."""

    evaluation: Name
    role: Name
    run: Name
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    weights: Literal["base", "trained"]


class QuadrantRow(MetricsRow):
    """A row of ``quadrants.json``. Other programs may write one with fewer keys than a study."""

    step: Count = 0
    cycle: Count = 0
    phase: Literal["eval"] = "eval"
    n: Count | None = 0
    evaluation: Name | None = None
    role: Name | None = None
    run: Name | None = None
    seed: Whole | None = None
    weights: Literal["base", "trained"]


class StoredDemonstration(Stored):
    question: Text
    answer: Text
    problem_id: Name | None = None


class StoredContext(Stored):
    instructions: Text
    demonstrations: Annotated[list[StoredDemonstration], Field(max_length=1000)]


class StoredCandidate(StoredContext):
    parents: Annotated[list[Name], Field(max_length=1000)]
    origin: Name
    cycle: Count
    scores: Annotated[dict[Name, Share], Field(max_length=MAX_ITEMS)]
    shown: Annotated[list[Name], Field(max_length=MAX_ITEMS)] = []


class ContextRow(StoredCandidate):
    """A row of ``contexts.jsonl``."""

    step: Count
    time: Seconds = 0.0
    digest: Name
    kept: bool
    rank: Annotated[int, Field(ge=1, le=MAX_COUNT)] | None = None
    mean: Share | None = None
    phase_cycle: Count | None = None


class AnswerRow(Stored):
    """A row of ``reflections.jsonl``."""

    prompt: Text
    answer: Text


class StoredVerdict(Stored):
    """A verdict, or the failure of the verifier."""

    score: Share | None = None
    feedback: Text = ""
    failure: Text | None = None
    trace: Text = ""
    stopped: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> StoredVerdict:
        if (self.score is None) == (self.failure is None):
            raise ValueError("expected either a score or a failure")
        return self


class StoredTurn(Stored):
    read: Annotated[list[Token], Field(max_length=MAX_ITEMS)]
    sampled: Annotated[list[Token], Field(max_length=MAX_ITEMS)]
    logprobs: Annotated[list[Logprob], Field(max_length=MAX_ITEMS)]
    text: Text
    finished: bool

    @model_validator(mode="after")
    def _lengths_agree(self) -> StoredTurn:
        if len(self.sampled) != len(self.logprobs):
            raise ValueError("there are not as many log-probabilities as tokens")
        return self


class StoredRollout(Stored):
    problem_id: Name
    context: Name
    verdict: StoredVerdict
    turns: Annotated[list[StoredTurn], Field(min_length=1, max_length=10_000)]
    policy_version: Count


class StoredState(Stored):
    step: Count
    cycle: Count
    population: Annotated[list[StoredCandidate], Field(min_length=1, max_length=10_000)]
    own: Annotated[dict[Name, StoredContext], Field(max_length=10_000)]
    rollouts: Annotated[list[StoredRollout], Field(max_length=MAX_ITEMS)]
    skipped: Count

    @model_validator(mode="after")
    def _contexts_are_known(self) -> StoredState:
        known = {
            Context(
                c.instructions, tuple(Demonstration(d.question, d.answer) for d in c.demonstrations)
            ).digest
            for c in self.population
        }
        if any(rollout.context not in known for rollout in self.rollouts):
            raise ValueError("a reusable rollout is of a context that is not in the population")
        return self


class CheckpointState(Stored):
    """``state.json`` of a checkpoint."""

    state: StoredState
    metrics_bytes: Bytes
    contexts_bytes: Bytes
    rollout_files: Annotated[list[Name], Field(max_length=MAX_ITEMS)]
    answers_bytes: Bytes
    versions: Annotated[dict[Name, Name], Field(max_length=100)]


class PolicyState(Stored):
    """``policy.json`` of a checkpoint.

    Attributes:
        version: updates that the weights have seen.
        holds: what the checkpoint holds of the weights.
    """

    version: Count
    holds: Name


S = TypeVar("S", bound=BaseModel)

QUADRANTS = TypeAdapter(Annotated[list[QuadrantRow], Field(max_length=MAX_ITEMS)])


def check(model: type[S] | TypeAdapter[Any], value: Any) -> Any:
    """Validate ``value`` with ``model``.

    Raises:
        ValueError: ``value`` does not fit. The message names the first wrong key and its value.
    """
    try:
        if isinstance(model, TypeAdapter):
            return model.validate_python(value)
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part)[:80] for part in first["loc"])
        if first["type"] == "missing":
            raise ValueError(f"the key {key!r} is missing") from None
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "value_error":
            raise ValueError(f"{key}: {message}" if key else message) from None
        found = reprlib.repr(first["input"])
        where = f"{key!r}: " if key else ""
        raise ValueError(f"{where}{message[0].lower()}{message[1:]}; found {found}") from None


def read_json(path: Path, model: type[S]) -> S:
    """Read a small JSON file of a checkpoint. Raises: InputError if it does not fit ``model``."""
    try:
        found: S = check(model, parse(read_bytes(path, 2**20)))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}. No run wrote it so") from None
    return found
