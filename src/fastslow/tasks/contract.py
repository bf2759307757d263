"""What a task gives, held against what it promises."""

from __future__ import annotations

from collections.abc import Iterable

from fastslow.errors import InputError
from fastslow.types import Problem, Split, normalise_question


def problems_of(name: str, split: Split, found: object) -> tuple[Problem, ...]:
    """What ``Task.problems`` returned, as problems.

    Raises:
        InputError: it is no sequence of problems, or a problem's id or question is no text. The
            message names the task, the split and the place in it.
    """
    if not isinstance(found, Iterable):
        raise InputError(
            f"task {name}: problems({split!r}) returned {_kind(found)}; expected a list of Problem"
        )
    problems = tuple(found)
    for place, problem in enumerate(problems):
        where = f"task {name}: problems({split!r}), item {place}"
        if not isinstance(problem, Problem):
            raise InputError(f"{where} is {_kind(problem)}; expected a Problem")
        for key, value in (("id", problem.id), ("question", problem.question)):
            if not isinstance(value, str):
                raise InputError(f"{where}: its {key} is {_kind(value)}; expected text (str)")
    return problems


class Ids:
    """The ids of a task's problems, and where each stands.

    Args:
        name: the task, for messages.
        repeats: whether a question may come again under its id, as rows do that a data set holds
            twice; ``Splits`` leaves those out.
    """

    def __init__(self, name: str, *, repeats: bool) -> None:
        self._name, self._repeats = name, repeats
        self._known: dict[str, tuple[str, str]] = {}

    def add(self, source: str, problems: Iterable[Problem]) -> None:
        """Check problems one after the other: ``check`` with the source and a number as place."""
        for number, problem in enumerate(problems, start=1):
            self.check(f"{source}, problem {number}", problem)

    def check(self, place: str, problem: Problem) -> None:
        """Raises: InputError, if an id occurs twice. The message names both places."""
        question = normalise_question(problem.question)
        known, other = self._known.get(problem.id, (None, ""))
        if known is not None and not (self._repeats and known == question):
            raise InputError(
                f"task {self._name}: two problems have the id {_short(problem.id)}: {other}, "
                f"{_short(known)}; and {place}, {_short(question)}. Ids must differ, within a "
                "split and between splits: a rollout is graded by the problem of its id"
            )
        self._known.setdefault(problem.id, (question, place))


def _kind(value: object) -> str:
    return "None" if value is None else f"{_short(value)} of type {type(value).__name__}"


def _short(value: object, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."
