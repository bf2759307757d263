"""What an environment of the package ``verifiers`` is to us, whichever its form."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from fastslow.errors import InputError


@dataclass(frozen=True)
class Row:
    """One problem of an environment.

    Attributes:
        messages: its prompt, (role, text) each.
        data: JSON with which the environment scores completions of it.
        answer: the reference answer, if it has one by that name.
    """

    messages: tuple[tuple[str, str], ...]
    data: dict[str, Any]
    answer: str | None


@dataclass(frozen=True)
class Reward:
    """What an environment says of a completion: the reward, and what each function said."""

    total: float
    parts: dict[str, float]


class Environment(Protocol):
    """What an environment is to us, whichever its form.

    Attributes:
        has_evaluation: whether it keeps problems apart for evaluation.
        best: the reward of a completion on which every reward function says 1.
    """

    has_evaluation: bool
    best: float

    def rows(self, evaluation: bool) -> Iterator[Row]:
        """Its problems in its order, perhaps without end."""

    def score(self, data: dict[str, Any], completion: str) -> Coroutine[Any, Any, Reward]:
        """The reward of a completion of the row that has these data."""


def text_of(content: Any, name: str) -> str:
    """The content of a message as text. Raises: InputError if some of it is an image or sound."""
    if isinstance(content, str):
        return content
    parts = [part if isinstance(part, dict) else part.model_dump() for part in content or []]
    if any(part.get("type") != "text" for part in parts):
        kinds = ", ".join(sorted({str(part.get("type")) for part in parts}))
        raise InputError(
            f"task.environment: {name!r} shows more than text ({kinds}), which no policy here reads"
        )
    return "\n".join(part["text"] for part in parts)
