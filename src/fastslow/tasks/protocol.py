"""What a task is: problems per split, and a verifier that teaches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from fastslow.types import Problem, Split, Verdict


class Task(ABC):
    """A source of problems and the verifier that grades completions of them.

    Subclass it, register it with ``@register("name", ConfigModel)`` and name it in ``[task]``.
    """

    name: str

    @abstractmethod
    def problems(self, split: Split) -> Sequence[Problem]:
        """All problems of a split, in a stable order. Splits share no id and no question."""

    @abstractmethod
    def grade(self, problem: Problem, completion: str) -> Verdict:
        """Grade the text of one completion. Never raises on bad completions: those score 0."""

    def demonstrate(self, problem: Problem) -> str | None:
        """A completion that this task's verifier would score 1, as a demonstration's answer.

        The default is None: no demonstrations can be made for this task.
        """
        return None
