"""Problems from JSON Lines files: a question and an answer a line, and a verifier by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from fastslow.errors import InputError
from fastslow.grading.answers import choice_letter, extract_answer, last_number, only_number, tagged
from fastslow.grading.notation import plain
from fastslow.places import Place
from fastslow.tasks.feedback import lesson
from fastslow.tasks.names import register
from fastslow.tasks.protocol import Task
from fastslow.tasks.sourced import CutOptions, cut_splits
from fastslow.tasks.sources import columns, json_lines
from fastslow.text import excerpt
from fastslow.types import Problem, Split, Verdict

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class JsonlOptions(CutOptions):
    """Options of the task "jsonl". Relative paths start at the working directory."""

    path: Place
    """The file to train on; validation and test are cut from it unless they have their own."""
    validation_path: Place | None = None
    """File of problems for validation. Left out: they are cut from ``path``."""
    test_path: Place | None = None
    """File of problems for testing. Left out: they are cut from ``path``."""
    question: str = "question"
    """The key of the question in each line."""
    answer: str = "answer"
    """The key of the reference answer."""
    id: str | None = None
    """The key of an id, which no two questions of a file share; None: the line's number. The file's
    name stands before a line's number, and before any id where the task reads several files. Of
    files of one name as much of their paths as tells them apart."""
    choices: str | None = None
    """The key of a list of choices, which are shown below the question as "A) ..." lines."""
    solution: str | None = None
    """The key of a worked solution, which demonstrations show before the answer."""
    verifier: Literal["exact", "numeric", "choice"] = "exact"
    """exact: the same text, but for white space and the Unicode spelling of its characters.
    numeric: the one number between the tags. choice: the letter of a multiple choice."""
    tolerance: Annotated[float, Field(ge=0, le=1)] = 1e-6
    """Of "numeric": the error allowed, relative to the reference but to no less than 1."""


@dataclass(frozen=True)
class Reference:
    """What a line says of its answer: as it is expected, and worked out where the file does so."""

    answer: str
    solution: str | None = None


@register("jsonl", JsonlOptions)
class Jsonl(Task):
    """A JSON Lines file of questions and answers; exact, numeric or multiple-choice verifier."""

    def __init__(self, options: JsonlOptions) -> None:
        self._options = options
        paths: dict[Split, Path | None] = {
            "train": options.path,
            "validation": options.validation_path,
            "test": options.test_path,
        }
        self._labels = _labels({path for path in paths.values() if path is not None})
        self._splits = cut_splits(options, paths, self._read, self.name)

    def problems(self, split: Split) -> Sequence[Problem]:
        return self._splits[split]

    def grade(self, problem: Problem, completion: str) -> Verdict:
        reference: Reference = problem.reference
        answer = extract_answer(completion)
        matches = _VERIFIERS[self._options.verifier]
        if answer is not None and matches(answer, reference.answer, self._options.tolerance):
            return Verdict(1.0, f"Right: {tagged(reference.answer)}")
        return Verdict(
            0.0,
            lesson(
                completion, reference.answer, _worked(reference), _REMARKS[self._options.verifier]
            ),
        )

    def demonstrate(self, problem: Problem) -> str | None:
        worked = _worked(problem.reference)
        return worked if self.grade(problem, worked).score == 1.0 else None

    def _read(self, path: Path, _: Split) -> list[Problem]:
        problems = [self._problem(path, number, row) for number, row in json_lines(path)]
        if not problems:
            raise InputError(f"{path}: the file holds no problem; expected a JSON object a line")
        return problems

    def _problem(self, path: Path, line: int, row: dict[str, Any]) -> Problem:
        options, where = self._options, f"{path}: line {line}"
        question = _value(row, options.question, where)
        if not question.strip():
            raise InputError(f"{where}: {options.question!r} is empty; expected a question")
        choices = [] if options.choices is None else _choices(row, options.choices, where)
        if choices:
            lines = (f"{letter}) {text}" for letter, text in zip(LETTERS, choices, strict=False))
            question = "\n".join([question, *lines])
        answer = _value(row, options.answer, where)
        canonical = _CANONICAL[options.verifier](answer)
        if not canonical:
            raise InputError(
                f"{where}: {options.answer!r} is {excerpt(answer)}, in which the verifier "
                f"{options.verifier!r} finds no answer. {_REMARKS[options.verifier]}"
            )
        if choices and options.verifier == "choice" and canonical not in LETTERS[: len(choices)]:
            raise InputError(
                f"{where}: {options.answer!r} is {excerpt(answer)}, which names no choice; "
                f"the choices are {', '.join(LETTERS[: len(choices)])}"
            )
        return Problem(
            id=self._id(path, line, row, where),
            question=question,
            reference=Reference(
                canonical, _value(row, options.solution, where) if options.solution else None
            ),
        )

    def _id(self, path: Path, line: int, row: dict[str, Any], where: str) -> str:
        labelled = f"{self._labels[path]}:"
        if self._options.id is None:
            return f"{labelled}{line}"
        own = _value(row, self._options.id, where)
        return own if len(self._labels) == 1 else f"{labelled}{own}"


def _labels(paths: Collection[Path]) -> dict[Path, str]:
    """The name of each file, or as many of the last parts of its path as tell it from the others.

    No more of the path: ids, and with them the seeds of rollouts, must not depend on the place.
    """
    return {path: _label(path, [other for other in paths if other != path]) for path in paths}


def _label(path: Path, others: Sequence[Path]) -> str:
    count = 1
    while any(other.parts[-count:] == path.parts[-count:] for other in others):
        count += 1
    return "/".join(path.parts[-count:])


def _value(row: dict[str, Any], key: str, where: str) -> str:
    """A text or a number of a row, as text."""
    if key not in row:
        raise InputError(f"{where}: the key {key!r} is missing; the line has: {columns(row)}")
    value = row[key]
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise InputError(f"{where}: {key!r} is {value!r}; expected text or a number")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


def _choices(row: dict[str, Any], key: str, where: str) -> list[str]:
    choices = row.get(key)
    if not isinstance(choices, list) or not 2 <= len(choices) <= len(LETTERS):
        raise InputError(
            f"{where}: {key!r} is {choices!r}; expected a list of 2 to {len(LETTERS)} choices"
        )
    return [str(choice) for choice in choices]


def _worked(reference: Reference) -> str:
    answer = tagged(reference.answer)
    return answer if reference.solution is None else f"{reference.solution}\n{answer}"


def _exact(text: str) -> str:
    return " ".join(plain(text).split())


def _number(text: str) -> str:
    number = last_number(text)
    return "" if number is None else str(number)


def _letter(text: str) -> str:
    return choice_letter(text) or ""


def _close(answer: str, reference: str, tolerance: float) -> bool:
    found, expected = only_number(answer), Decimal(reference)
    return found is not None and abs(found - expected) <= Decimal(tolerance) * max(
        abs(expected), Decimal(1)
    )


_CANONICAL: dict[str, Callable[[str], str]] = {
    "exact": _exact,
    "numeric": _number,
    "choice": _letter,
}
"""The reference answer as its verifier reads it, empty if there is none in it."""

_VERIFIERS: dict[str, Callable[[str, str, float], bool]] = {
    "exact": lambda answer, reference, _: _exact(answer) == reference,
    "numeric": _close,
    "choice": lambda answer, reference, _: choice_letter(answer) == reference,
}
"""Whether an answer is the canonical reference, within the tolerance."""

_REMARKS = {
    "exact": "The answer must be the same text, but for white space.",
    "numeric": "Exactly one number must stand between the tags.",
    "choice": "One letter must stand between the tags.",
}
