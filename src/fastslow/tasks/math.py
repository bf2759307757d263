"""Mathematics with a final answer: GSM8K, Polaris-53K, MATH, olympiad sets, and sets of one's own.

Answers are compared by ``grading.equivalence``: what can be decided by reading is, the rest by
math-verify.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from fastslow.errors import InputError
from fastslow.grading.answers import Style, Which, extract, formatted, last_number
from fastslow.grading.equivalence import is_number, mismatch
from fastslow.places import PlaceOrName
from fastslow.tasks.feedback import lesson
from fastslow.tasks.math_sets import MATH_SETS, MathSet
from fastslow.tasks.names import register
from fastslow.tasks.protocol import Task
from fastslow.tasks.sourced import SourceOptions
from fastslow.tasks.sources import Row, read_rows
from fastslow.tasks.splits import Splits
from fastslow.text import excerpt
from fastslow.types import SPLITS, Problem, Split, Verdict

_CALCULATOR = re.compile(r"<<[^<>]*>>")
_PERCENTAGE = re.compile(r"percent|per cent|%", re.IGNORECASE)

SOLUTION_LINES = 5
"""Lines of a worked solution that feedback shows, the last ones."""


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if not limits[0] <= limits[1]:
        raise ValueError(f"expected [least, greatest]; found {list(limits)}")
    return limits


Difficulty = Annotated[float, Field(ge=-(10**9), le=10**9)]
Range = Annotated[tuple[Difficulty, Difficulty], AfterValidator(_ordered)]
"""Least and greatest difficulty, both included."""


class MathOptions(SourceOptions):
    """Options of the task "math".

    A column may lie within another: "reward_model.ground_truth", "prompt.0.content".
    """

    dataset: str | None = None
    """A set known by name (see ``tasks.math_sets``), which settles source and columns."""
    source: PlaceOrName = ""
    """Where the rows are; by default where ``dataset`` is on the hub. A file is read whole and cut
    into the splits, a folder may have files of their own for train and test."""
    answer: Literal["tags", "boxed", "number"] = "tags"
    r"""How answers are to be given: between <answer> tags, in \boxed{}, or as the last number."""
    counts: Which = "last"
    """Which of several answers in a completion counts."""
    question_column: str | None = None
    """Column of the question. Left out: the known set's, or a common name."""
    answer_column: str | None = None
    """Column of the reference answer. Left out: the known set's, or a common name."""
    solution_column: str | None = None
    """Column of a worked solution, for demonstrations and feedback."""
    difficulty_column: str | None = None
    """Column of the difficulty, for ``difficulty``. Left out: the known set's, if it has one."""
    difficulty: Range | None = None
    """Train on problems of this difficulty only, in the set's own measure: levels 1 to 5 in "math",
    the share of attempts that were right in "polaris"."""
    evaluate_difficulty: Range | None = None
    """As ``difficulty``, for validation and test; None: the same. Apart from it, for easy-to-hard
    generalisation: train on levels 1 to 3, evaluate on 4 and 5."""


@dataclass(frozen=True)
class Reference:
    """What a row says of its answer.

    Attributes:
        answers: one or more, each of which is right; the first is shown.
        solution: the way there, without the answer in a format of its own, if the row has one.
    """

    answers: tuple[str, ...]
    solution: str | None = None


@register("math", MathOptions)
class Math(Task):
    """Mathematics with a final answer, in tags or a box or as a number; graded by math-verify."""

    def __init__(self, options: MathOptions) -> None:
        self._options = options
        self._set = _math_set(options)
        self._label = options.dataset or "math"
        self._splits = self._cut()

    def problems(self, split: Split) -> Sequence[Problem]:
        if self._set.train is None and split != "test":
            raise InputError(
                f"task.dataset: {self._label!r} is for evaluation only and has no {split} split: "
                'evaluate on it with split = "test", and train on another set'
            )
        return self._splits[split]

    def grade(self, problem: Problem, completion: str) -> Verdict:
        reference: Reference = problem.reference
        style, counts = self._options.answer, self._options.counts
        answer = extract(style, completion, counts)
        remark = None
        if answer is not None:
            percentage = _PERCENTAGE.search(problem.question) is not None
            for expected in reversed(reference.answers):
                remark = mismatch(answer, expected, percentage=percentage)
                if remark is None:
                    return Verdict(1.0, f"Right: {formatted(style, expected)}")
        expected = " or ".join(reference.answers)
        worked = _worked(reference, style, lines=SOLUTION_LINES)
        return Verdict(0.0, lesson(completion, expected, worked, remark, style=style, which=counts))

    def demonstrate(self, problem: Problem) -> str | None:
        reference: Reference = problem.reference
        bare = Reference(reference.answers)
        for shown in (reference, bare):  # a solution may hold what would be read as its answer
            worked = _worked(shown, self._options.answer)
            if self.grade(problem, worked).score == 1.0:
                return worked
        return None

    def warm_up(self) -> None:
        mismatch(r"\frac{x}{\sqrt{2}}+1", r"\frac{2 x}{\sqrt{8}}+1")

    def _cut(self) -> Splits:
        options, known = self._options, self._set
        to_train = options.difficulty
        to_evaluate = options.evaluate_difficulty or to_train
        if known.train is None:
            rows = self._read(known.source, known.test or "test")
            test = (row.problem for row in rows if row.within(to_evaluate))
            return Splits(
                {"train": (), "validation": (), "test": test}, dict.fromkeys(SPLITS), self._label
            )
        rows = self._read(known.source, known.train)
        random.Random(options.data_seed).shuffle(rows)
        held = [row for row in rows if row.within(to_evaluate)]
        rest = iter(held)
        evaluated = (row.problem for row in rest)
        other = (row for row in rows if not row.within(to_evaluate))
        streams: dict[Split, Iterable[Problem]] = {
            # What validation and test leave over may be in the range to train on, too.
            "train": (row.problem for row in chain(other, rest) if row.within(to_train)),
        }
        sizes: dict[Split, int | None] = {"train": options.train}
        for split, own, share in self._evaluated():
            if own is None:
                streams[split] = evaluated
                sizes[split] = round(share * len(held)) if share < 1 else int(share)
            else:
                own_rows = self._read(own, known.test if own == known.source else split)
                streams[split] = [row.problem for row in own_rows if row.within(to_evaluate)]
                sizes[split] = None
        return Splits(streams, sizes, self._label)

    def _evaluated(self) -> Iterator[tuple[Split, str | None, float]]:
        """Validation and test: the source of its own that it has, if any, and its share if not."""
        options, known = self._options, self._set
        yield "validation", options.validation_source, options.validation
        has_test = known.test is not None and not os.path.isfile(known.source)
        yield "test", options.test_source or (known.source if has_test else None), options.test

    def _read(self, source: str, split: str | None) -> list[_Row]:
        known = self._set
        columns = [known.question, known.answer, known.difficulty, self._options.solution_column]
        rows = read_rows(
            source,
            [column.partition(".")[0] for column in columns if column],
            hub_config=known.config,
            hub_split=split or "train",
        )
        return [self._row(row, f"{source}: row {n}") for n, row in enumerate(rows, start=1)]

    def _row(self, row: Row, where: str) -> _Row:
        known = self._set
        question = _text(_cell(row, known.question, where), known.question, where)
        written = _cell(row, known.answer, where)
        answers, solution = _answers(
            written if isinstance(written, list) else [written], known, where
        )
        if self._options.solution_column or (known.solution and known.solution in row):
            shown = _cell(row, known.solution or "", where)
            solution = shown.strip() if isinstance(shown, str) else None  # some rows have none
        if self._options.answer == "number":
            for answer in answers:
                if not is_number(answer):
                    raise InputError(
                        f"{where}: the answer {excerpt(answer, 80)} is no number, so it cannot be "
                        'the last number of a completion: set task.answer = "boxed" or "tags"'
                    )
        digest = hashlib.sha256(question.encode("utf-8", "surrogatepass")).hexdigest()
        return _Row(
            Problem(f"{self._label}-{digest[:12]}", question, Reference(answers, solution)),
            _difficulty(_cell(row, known.difficulty, where)) if known.difficulty else None,
        )


@dataclass(frozen=True)
class _Row:
    problem: Problem
    difficulty: float | None

    def within(self, limits: tuple[float, float] | None) -> bool:
        if limits is None:
            return True
        return self.difficulty is not None and limits[0] <= self.difficulty <= limits[1]


def _math_set(options: MathOptions) -> MathSet:
    """The set that the options describe. Raises: InputError if they do not say enough."""
    if options.dataset is None:
        if not options.source:
            raise InputError(
                f"task.dataset: name a set ({', '.join(MATH_SETS)}), or set task.source to a file, "
                "a folder or the id of a data set on the hub"
            )
        known = MathSet(options.source, train="train", test=None)
    elif options.dataset in MATH_SETS:
        known = MATH_SETS[options.dataset]
    else:
        near = difflib.get_close_matches(options.dataset, MATH_SETS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(
            f"task.dataset: unknown set {options.dataset!r}; {hint}Allowed: "
            f"{', '.join(MATH_SETS)}, or task.source without task.dataset"
        )
    given = {
        "source": options.source,
        "question": options.question_column,
        "answer": options.answer_column,
        "solution": options.solution_column,
        "difficulty": options.difficulty_column,
    }
    known = replace(known, **{key: value for key, value in given.items() if value})
    if known.difficulty is None:
        for key in ("difficulty", "evaluate_difficulty"):
            if getattr(options, key) is not None:
                raise InputError(
                    f"task.{key}: the set has no column of difficulty: set task.difficulty_column"
                )
        return known
    if options.difficulty is None and options.evaluate_difficulty is None:
        return replace(known, difficulty=None)  # need not be there
    return known


def _cell(row: Row, column: str, where: str) -> Any:
    """The value of a column, or of one within it, as in "prompt.0.content"."""
    if column in row:
        return row[column]
    value: Any = row
    for key in column.split("."):
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            raise InputError(f"{where}: there is no {column!r}: {key!r} is missing")
    return value


def _text(value: Any, column: str, where: str) -> str:
    """A text or a number as text, whole numbers without a point."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InputError(f"{where}: {column!r} is {value!r}; expected text or a number")
    if not (text := str(value).strip()):
        raise InputError(f"{where}: {column!r} is empty")
    return text


def _answers(written: list[Any], known: MathSet, where: str) -> tuple[tuple[str, ...], str | None]:
    """The right answers in a row's column of answers, and the solution that ends in one."""
    if not written:
        raise InputError(f"{where}: {known.answer!r} is an empty list; expected an answer")
    answers, solution = [], None
    for value in written:
        text = _text(value, known.answer, where)
        way, marked, final = text.rpartition("####")
        if marked:
            solution, text = _CALCULATOR.sub("", way).strip(), final.strip()
        elif (boxed := extract("boxed", text)) is not None:
            solution, text = text, boxed
        if not text:
            raise InputError(
                f"{where}: {known.answer!r} holds no answer: {excerpt(str(value), 80)}"
            )
        answers.append(text)
    return tuple(dict.fromkeys(answers)), solution


def _difficulty(value: Any) -> float | None:
    if isinstance(value, int | float):
        return float(value)
    number = last_number(str(value))  # "Level 5", "3/8"
    return None if number is None else float(number)


def _worked(reference: Reference, style: Style, lines: int | None = None) -> str:
    """The worked solution, or its last lines, and the answer in the style in which it is read."""
    answer = formatted(style, reference.answers[0])
    if reference.solution is None:
        return answer
    shown = reference.solution.splitlines()
    if lines is not None and len(shown) > lines:
        shown = ["...", *shown[-lines:]]
    return "\n".join([*shown, answer])
