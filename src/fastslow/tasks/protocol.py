"""What a task is: problems per split, and a verifier that teaches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from fastslow.tasks.splits import Splits
from fastslow.types import Problem, Split, Verdict


class Task(ABC):
    """A source of problems and the verifier that grades completions of them.

    Subclass it, register it with ``@register("name", ConfigModel)`` and name it in ``[task]``.

    Runs grade in processes of their own (``tasks.grading``), to which the task travels by pickle.
    ``__getstate__`` decides what it takes along; left to itself, all but its ``Splits``.

    Attributes:
        name: what it is called in ``[task]``.
        grading_seconds: time for one verdict, on the clock; beyond it the verifier is stopped and
            the completion scores 0 (see ``grading.Graders``). A verifier that waits for a judge had
            better raise before: what it raises is a failure, and no score.
        grading_bytes: memory for one verdict, beyond what the task itself takes up.
    """

    name: str
    grading_seconds: float = 10.0
    grading_bytes: int = 2 * 2**30

    @abstractmethod
    def problems(self, split: Split) -> Sequence[Problem]:
        """All problems of a split, in a stable order. No id and no question occurs twice, in one
        split or in two."""

    @abstractmethod
    def grade(self, problem: Problem, completion: str) -> Verdict:
        """Grade the text of one completion. A bad completion scores 0.

        To raise says that the verifier failed. The completion then has no score: it is left out of
        its group, and a run in which every verdict of a batch fails ends.
        """

    def demonstrate(self, problem: Problem) -> str | None:
        """A completion that this task's verifier would score 1, as a demonstration's answer.

        The default is None: no demonstrations can be made for this task.
        """
        return None

    def warm_up(self) -> None:  # noqa: B027 - few tasks need it
        """Import and build what ``grade`` needs, before any verdict's time begins to count.

        Called once in the process from which the graders are forked.
        """

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if not isinstance(value, Splits)}
