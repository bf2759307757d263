"""Data of one turn: a prompt and a completion with one advantage and one weight."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

from fastslow.types import Datum


def one_turn(
    prompt: Sequence[int],
    completion: Sequence[int],
    logprobs: Sequence[float],
    advantage: float = 0.0,
    weight: float = 1.0,
    version: int | None = 0,
    source: str = "",
    teacher_prompt: Sequence[int] | None = None,
) -> Datum:
    """A datum in which the completion is scored, and the prompt read."""
    read, count = len(prompt), len(completion)
    return Datum(
        tokens=(*prompt, *completion),
        mask=(*[False] * read, *[True] * count),
        logprobs=(*[0.0] * read, *logprobs),
        advantages=(*[0.0] * read, *[advantage] * count),
        weights=(*[0.0] * read, *[weight] * count),
        policy_version=version,
        source=source,
        teacher_prompt=teacher_prompt,
    )


def prompt_of(datum: Datum) -> tuple[int, ...]:
    """What is read before the first scored token."""
    return tuple(datum.tokens[: datum.sequence.scored[0]])


def completion_of(datum: Datum) -> tuple[int, ...]:
    """The scored tokens."""
    return tuple(compress(datum.tokens, datum.mask))


def logprobs_of(datum: Datum) -> tuple[float, ...]:
    """Log-probabilities of the scored tokens."""
    return tuple(compress(datum.logprobs, datum.mask))


def advantage_of(datum: Datum) -> float:
    """The advantage that all scored tokens have."""
    (advantage,) = set(compress(datum.advantages, datum.mask))
    return advantage


def weight_of(datum: Datum) -> float:
    """The weight that all scored tokens have."""
    (weight,) = set(compress(datum.weights, datum.mask))
    return weight
