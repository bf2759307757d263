"""LiveCodeBench (arXiv 2403.07974): programming problems of contests, for evaluation only.

Public schema, a row a problem: ``question_title``, ``question_content``, ``platform``,
``question_id``, ``contest_date``, ``starter_code``, ``difficulty``, ``public_test_cases`` (JSON
text), ``private_test_cases`` (JSON text, or that text pickled, compressed and in base 64) and
``metadata`` (JSON text, with ``func_name`` where a function is asked for).
"""

from __future__ import annotations

import base64
import json
import pickletools
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field

from fastslow.config import Positive, Section
from fastslow.errors import InputError
from fastslow.places import PlaceOrName
from fastslow.tasks.contract import Ids
from fastslow.tasks.json_values import read_value
from fastslow.tasks.names import register
from fastslow.tasks.protocol import Task
from fastslow.tasks.solutions import (
    OUTPUT_LIMIT,
    Test,
    arguments_of,
    extract_program,
    first_failure,
)
from fastslow.tasks.sources import read_rows
from fastslow.tasks.splits import Splits
from fastslow.text import excerpt
from fastslow.types import Problem, Split, Verdict

TESTS_LIMIT = 2**29
"""Bytes of the private tests of one problem, at most."""

Difficulty = Literal["easy", "medium", "hard"]
Seconds = Annotated[float, Field(gt=0, le=86_400)]

_COLUMNS = (
    "question_content", "question_id", "contest_date", "starter_code", "difficulty",
    "public_test_cases", "private_test_cases", "metadata",
)  # fmt: skip


class LiveCodeBenchOptions(Section):
    """Options of the task "livecodebench"."""

    source: PlaceOrName = "lighteval/code_generation_lite"
    """A hub id, or a local file or folder in its schema. The original's own repository holds a
    loading script, which is never run; this one holds the same rows as data."""
    release: str = "release_v6"
    """Which problems of the hub: "release_v1" to "release_v6", or "v5" for what v5 added."""
    difficulty: Annotated[tuple[Difficulty, ...], Field(min_length=1, max_length=100)] = ("hard",)
    """Problems of these difficulties only."""
    start_date: date | None = None
    """Only problems of contests from this day on: after a model's training data end."""
    end_date: date | None = None
    """Only problems of contests up to this day."""
    test: Positive | None = None
    """Problems, at most; None: all."""
    seconds: Seconds = 6.0
    """Processor time for one test."""
    total_seconds: Seconds = 300.0
    """Time on the clock for all tests of one program."""


@dataclass(frozen=True)
class Reference:
    """The tests of a problem, as the row has them: decoded they may take up a hundred times more.

    Attributes:
        public: JSON text.
        private: JSON text, encoded or not.
        function: name of the function that is called; None if standard input is read.
    """

    public: str
    private: str
    function: str | None

    def tests(self) -> list[Test]:
        """The public tests, then the private ones. Raises: ValueError."""
        return [*_tests(self.public), *_tests(_decoded(self.private))]


@register("livecodebench", LiveCodeBenchOptions)
class LiveCodeBench(Task):
    """LiveCodeBench (arXiv 2403.07974): write a program that passes all tests; evaluation only."""

    def __init__(self, options: LiveCodeBenchOptions) -> None:
        self._options = options
        self.grading_seconds = options.total_seconds + 2 * options.seconds + 30
        rows = read_rows(options.source, _COLUMNS, hub_config=options.release, hub_split="test")
        chosen = [row for row in rows if _is_chosen(row, options)]
        if not chosen:
            raise InputError(
                f"{options.source}: none of its {len(rows)} problems is of task.difficulty "
                f"{', '.join(options.difficulty)} and from task.start_date "
                f"{options.start_date or 'on'} to task.end_date {options.end_date or 'any'}"
            )
        self._splits = Splits(
            {"train": (), "validation": (), "test": self._problems(chosen)},
            {"train": 0, "validation": 0, "test": options.test},
            self.name,
        )

    def problems(self, split: Split) -> Sequence[Problem]:
        if split != "test":
            raise InputError(
                f"{self.name} is for evaluation only and has no {split} split: train on another "
                'task, and evaluate on this one with eval.split = "test"'
            )
        return self._splits[split]

    def grade(self, problem: Problem, completion: str) -> Verdict:
        reference: Reference = problem.reference
        program = extract_program(completion)
        if program is None:
            return Verdict(0.0, f"{_FORMAT} The completion ended: {completion[-200:]!r}.")
        failure = first_failure(
            program,
            reference.tests(),
            reference.function,
            seconds=self._options.seconds,
            total_seconds=self._options.total_seconds,
        )
        if failure is None:
            return Verdict(1.0, "Right: the program passes all tests.")
        return Verdict(0.0, f"The program was found and run. {failure}")

    def _problems(self, rows: Sequence[dict[str, Any]]) -> Iterator[Problem]:
        ids = Ids(self.name, repeats=True)
        for number, row in enumerate(rows, start=1):
            where = f"{self._options.source}: question_id {excerpt(str(row['question_id']), 40)}"
            try:
                problem = Problem(str(row["question_id"]), _question(row), _reference(row))
            except ValueError as error:
                raise InputError(f"{where}: {error}") from None
            ids.check(f"{self._options.source}, problem {number}", problem)
            yield problem


_FORMAT = (
    "No program was found. It must stand in a complete code block, which begins with a line "
    "```python and ends with a line ```; the last one of them is run."
)


def _is_chosen(row: dict[str, Any], options: LiveCodeBenchOptions) -> bool:
    if row["difficulty"] not in options.difficulty:
        return False
    try:
        day = date.fromisoformat(str(row["contest_date"])[:10])
    except ValueError:
        raise InputError(
            f"{options.source}: question_id {row['question_id']}: contest_date is "
            f"{row['contest_date']!r}; expected a date as in 2024-05-04T00:00:00"
        ) from None
    return (options.start_date or date.min) <= day <= (options.end_date or date.max)


def _question(row: dict[str, Any]) -> str:
    if row["starter_code"]:
        how = (
            "Complete this code. The names of its class and of its function must stay.\n\n"
            f"```python\n{row['starter_code'].rstrip()}\n```\n\n"
        )
    else:
        how = "Write a program that reads standard input and prints to standard output.\n\n"
    return f"{row['question_content']}\n\n{how}The answer is Python, whole, in one ```python block."


def _reference(row: dict[str, Any]) -> Reference:
    """The tests of a row, after a look at each of them. Raises: ValueError."""
    for column in ("public_test_cases", "private_test_cases", "metadata"):
        if not isinstance(row[column], str):
            raise ValueError(f"{column} is {excerpt(repr(row[column]), 40)}; expected text")
    metadata = _json(row["metadata"] or "{}", "metadata")
    function = metadata.get("func_name") if isinstance(metadata, dict) else None
    reference = Reference(row["public_test_cases"], row["private_test_cases"], function)
    tests = reference.tests()
    if not tests:
        raise ValueError("there is no test, and every program would pass")
    if function is not None:
        for test in tests:
            arguments_of(test)
            read_value(test.output, OUTPUT_LIMIT)
    return reference


def _tests(text: str) -> list[Test]:
    match _json(text, "test cases"):
        case [*cases] if all(map(_is_case, cases)):
            return [Test(case["input"], case["output"]) for case in cases]
    raise ValueError('test cases: expected a list of {"input", "output"}, both of them text')


def _is_case(case: object) -> bool:
    match case:
        case {"input": str(), "output": str()}:
            return True
    return False


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what}: no JSON: {error}; found {excerpt(text, 80)}") from None


def _decoded(text: str) -> str:
    """JSON text out of base 64, zlib and pickle, unless it is plain. Raises: ValueError.

    The pickle is read as far as it holds one text, and never loaded: loading it could run code.
    """
    if text.lstrip().startswith("["):
        return text
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(text, validate=True), TESTS_LIMIT)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"private_test_cases: neither JSON nor packed: {error}") from None
    if not unpacker.eof:
        raise ValueError(
            f"private_test_cases: cut off, or more than {TESTS_LIMIT:,} bytes when unpacked"
        )
    return _pickled_text(data)


def _pickled_text(data: bytes) -> str:
    texts = []
    for operation, argument, _ in pickletools.genops(data):
        if operation.name in _TEXT_OPERATIONS:
            texts.append(argument)
        elif operation.name not in _IDLE_OPERATIONS:
            raise ValueError(
                f"private_test_cases: a pickle that does more than hold a text "
                f"({operation.name}) is not loaded"
            )
    if len(texts) != 1:
        raise ValueError(f"private_test_cases: a pickle of {len(texts)} texts; expected one")
    return str(texts[0])


_TEXT_OPERATIONS = frozenset({"UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"})
_IDLE_OPERATIONS = frozenset({"PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "STOP"})
