"""Problems from JSON Lines files: a question and an answer a line, and a verifier by name."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from fastslow.config import NonNegative, Positive, Section
from fastslow.errors import InputError
from fastslow.tasks.answers import (
    choice_letter,
    excerpt,
    extract_answer,
    last_number,
    lesson,
    tagged,
)
from fastslow.tasks.protocol import Task
from fastslow.tasks.registry import register
from fastslow.tasks.splits import Splits
from fastslow.types import Problem, Split, Verdict

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _whole_from_one(share: float) -> float:
    if share >= 1 and not share.is_integer():
        raise ValueError(f"expected a fraction below 1 or a whole number; found {share}")
    return share


Share = Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(_whole_from_one)]
"""Below 1 a fraction of the lines of the file, from 1 on a number of problems."""


class JsonlOptions(Section):
    """Options of the task "jsonl". Relative paths start at the working directory."""

    path: Path
    """The file to train on; validation and test are cut from it unless they have their own."""
    validation_path: Path | None = None
    test_path: Path | None = None
    question: str = "question"
    """The key of the question in each line."""
    answer: str = "answer"
    """The key of the reference answer."""
    id: str | None = None
    """The key of an id; None: the file's name and the line's number."""
    choices: str | None = None
    """The key of a list of choices, which are shown below the question as "A) ..." lines."""
    solution: str | None = None
    """The key of a worked solution, which demonstrations show before the answer."""
    verifier: Literal["exact", "numeric", "choice"] = "exact"
    """exact: the same text but for white space. numeric: the last number of the answer.
    choice: the letter of a multiple choice."""
    tolerance: Annotated[float, Field(ge=0)] = 1e-6
    """Of "numeric": the error allowed, relative to the reference but to no less than 1."""
    train: Positive | None = None
    """Problems to train on, at most; None: all that are in neither other split."""
    validation: Share = 0.1
    """Problems or fraction cut for validation; all lines of ``validation_path`` where given."""
    test: Share = 0.1
    """As ``validation``, for testing."""
    data_seed: NonNegative = 0
    """Of the shuffle before the cut, which does not depend on the run's seed."""


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
        shared = self._read(options.path)
        lines = len(shared)
        random.Random(options.data_seed).shuffle(shared)
        stream = iter(shared)
        paths: dict[Split, Path | None] = {
            "validation": options.validation_path,
            "test": options.test_path,
        }
        shares: dict[Split, float] = {"validation": options.validation, "test": options.test}
        self._splits = Splits(
            {
                "train": stream,
                **{split: self._read(path) if path else stream for split, path in paths.items()},
            },
            {
                "train": options.train,
                **{
                    split: None if path else _count(shares[split], lines)
                    for split, path in paths.items()
                },
            },
            self.name,
        )

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

    def _read(self, path: Path) -> list[Problem]:
        problems = [self._problem(path, number, row) for number, row in read_rows(path)]
        if not problems:
            raise InputError(f"{path}: the file holds no problem; expected a JSON object a line")
        return problems

    def _problem(self, path: Path, line: int, row: dict[str, Any]) -> Problem:
        options, where = self._options, f"{path}: line {line}"
        question = _value(row, options.question, where)
        if options.choices is not None:
            choices = _choices(row, options.choices, where)
            lines = (f"{letter}) {text}" for letter, text in zip(LETTERS, choices, strict=False))
            question = "\n".join([question, *lines])
        answer = _value(row, options.answer, where)
        canonical = _CANONICAL[options.verifier](answer)
        if not canonical:
            raise InputError(
                f"{where}: {options.answer!r} is {excerpt(answer)}, in which the verifier "
                f"{options.verifier!r} finds no answer. {_REMARKS[options.verifier]}"
            )
        return Problem(
            id=_value(row, options.id, where) if options.id else f"{path.name}:{line}",
            question=question,
            reference=Reference(
                canonical, _value(row, options.solution, where) if options.solution else None
            ),
        )


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON Lines file, each with the number of its line; blank lines are skipped.

    Raises:
        InputError: the file cannot be read, or a line is no JSON object.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _parse(line, f"{path}: line {number}")
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file (task jsonl, {path.absolute()})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text: {error}") from None


def _parse(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{where}: is not JSON: {error}; found {excerpt(line.strip(), 80)}"
        ) from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected a JSON object; found {excerpt(line.strip(), 80)}")
    return row


def _value(row: dict[str, Any], key: str, where: str) -> str:
    """A text or a number of a row, as text."""
    if key not in row:
        raise InputError(f"{where}: the key {key!r} is missing; the line has: {', '.join(row)}")
    value = row[key]
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise InputError(f"{where}: {key!r} is {value!r}; expected text or a number")
    return str(value)


def _choices(row: dict[str, Any], key: str, where: str) -> list[str]:
    choices = row.get(key)
    if not isinstance(choices, list) or not 2 <= len(choices) <= len(LETTERS):
        raise InputError(
            f"{where}: {key!r} is {choices!r}; expected a list of 2 to {len(LETTERS)} choices"
        )
    return [str(choice) for choice in choices]


def _count(share: float, lines: int) -> int:
    return round(share * lines) if share < 1 else int(share)


def _worked(reference: Reference) -> str:
    answer = tagged(reference.answer)
    return answer if reference.solution is None else f"{reference.solution}\n{answer}"


def _exact(text: str) -> str:
    return " ".join(text.split())


def _number(text: str) -> str:
    number = last_number(text)
    return "" if number is None else str(number)


def _letter(text: str) -> str:
    return choice_letter(text) or ""


def _close(answer: str, reference: str, tolerance: float) -> bool:
    found, expected = last_number(answer), Decimal(reference)
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
    "numeric": "The last number between the tags is compared.",
    "choice": "One letter must stand between the tags.",
}
