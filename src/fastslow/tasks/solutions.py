"""Programs that a model wrote: found in its completion, run in the sandbox, held against tests.

A program sees one input at a time and never an expected output: those stay in this process, and
nothing that a program prints, returns or leaves behind is taken for more than its answer.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from fastslow.grading.answers import extract_answer
from fastslow.sandbox import Jail, Limits, Outcome, Program, Sandbox
from fastslow.tasks.json_values import first_difference, read_value
from fastslow.text import excerpt

MEMORY = 2**30
"""Bytes of address space of one program."""
TOLERANCE = Decimal("1e-6")
"""Error allowed of a number that is expected with a decimal point: relative to it, but absolute if
it is whole, so that none of its digits can be left out."""
RETURN_TOLERANCE = 1e-5
"""The same of one that is returned, as the site whose problems ask for a function allows."""
OUTPUT_LIMIT = 2**26
"""Characters that are read of an answer, or of an expected output, at most."""

_NUMBER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?")
_PYTHON = frozenset({"", "py", "python", "python3"})
_RUNNER_FILE = Path(__file__).with_name("solution_runner.py")
_RUNNER = compile(_RUNNER_FILE.read_text(encoding="utf-8"), "main.py", "exec")
_PRELOAD = (
    "bisect", "collections", "copy", "datetime", "decimal", "fractions", "functools", "heapq",
    "itertools", "json", "math", "operator", "random", "re", "string", "typing",
)  # fmt: skip
"""Modules that every solution has at hand, so that each test need not import them anew."""


@dataclass(frozen=True)
class Test:
    """One test of a program.

    Attributes:
        input: standard input, or the arguments of the function, one JSON value a line.
        output: what must be printed, or the JSON value that must be returned.
    """

    input: str
    output: str


def extract_program(completion: str) -> str | None:
    """The program in a completion, or None if there is none.

    It is the last complete ```python block, within the last answer tags if there are any; between
    tags without such a block it is all of the text.
    """
    answer = extract_answer(completion)
    blocks = _blocks(completion if answer is None else answer)
    program = blocks[-1] if blocks else answer or None
    # Lone surrogates have no UTF-8, and no meaning in a program.
    return program and program.encode("utf-8", "replace").decode()


def first_failure(
    program: str,
    tests: Sequence[Test],
    function: str | None,
    *,
    seconds: float,
    total_seconds: float,
) -> str | None:
    """What goes wrong at the first test that a program fails, or None if it passes them all.

    Args:
        program: its text.
        tests: in the order in which they are tried.
        function: name of the function, or method of ``class Solution``, that is called; None for
            a program that reads standard input and prints.
        seconds: processor time for one test.
        total_seconds: on the clock, for all of them.

    Raises:
        InputError: this machine cannot isolate what it runs.
    """
    deadline = time.monotonic() + total_seconds
    jail = _own_jail()
    for number, test in enumerate(tests, start=1):
        mistake = _mistake(jail, program, test, function, seconds)
        if mistake is None and time.monotonic() > deadline:
            mistake = f"all tests up to this one took more than {total_seconds:g} seconds"
        if mistake is not None:
            return (
                f"It fails test {number} of {len(tests)}: {mistake}\n"
                f"Input: {excerpt(test.input, 500)}\n"
                f"Expected output: {excerpt(test.output, 500)}"
            )
    return None


def _own_jail() -> Jail:
    """The sandbox of this thread, which one solution after another uses: its start takes longer
    than most tests. Each test has a process of its own in it all the same."""
    if getattr(_OWN, "process", None) != os.getpid():  # a process that was forked needs another
        _OWN.process, _OWN.jail = os.getpid(), Jail(preload=_PRELOAD)
    jail: Jail = _OWN.jail
    return jail


_OWN = threading.local()


def _mistake(
    sandbox: Sandbox, program: str, test: Test, function: str | None, seconds: float
) -> str | None:
    files = {"solution.py": program}
    if function is not None:
        call = {"function": function, "arguments": arguments_of(test)}
        files["call.json"] = json.dumps(call)
    result = sandbox.run(
        Program(_RUNNER, test.input if function is None else "", files),
        Limits(
            seconds=2 * seconds + 5,  # the clock goes on while other processes work
            cpu_seconds=seconds,
            memory_bytes=MEMORY,
            output_bytes=2 * len(test.output.encode()) + 2**16,
        ),
    )
    if result.timed_out:
        return f"it took longer than {seconds:g} seconds."
    if result.reason is not None or result.returncode != 0:
        return _crash(result)
    if function is None:
        difference = first_wrong_line(test.output, result.stdout)
    else:
        difference = _wrong_return(test.output, result.stdout)
    if difference is None:
        return None
    return f"{difference}\nIts output: {excerpt(result.stdout, 500)}"


def _crash(result: Outcome) -> str:
    """How a program ended that did not come to its end: the limit it broke, or its last error."""
    if result.reason is not None:
        return f"{result.reason}."
    lines = re.findall(r'File "solution\.py", line (\d+)', result.stderr)
    where = f" in line {lines[-1]}" if lines else ""
    error = result.stderr.strip().rpartition("\n")[2] or f"exit code {result.returncode}"
    return f"it ends with an error{where}: {excerpt(error, 300)}."


def arguments_of(test: Test) -> list[Any]:
    """The arguments of a test of a function. Raises: ValueError."""
    return [read_value(line, OUTPUT_LIMIT) for line in test.input.splitlines() if line.strip()]


def _wrong_return(expected: str, printed: str) -> str | None:
    if not printed:
        return "it ended before the function returned."
    try:
        found = read_value(printed, OUTPUT_LIMIT)
    except ValueError as error:
        return f"what the function returned could not be read: {error}."
    wanted = read_value(expected, OUTPUT_LIMIT)
    difference = first_difference(wanted, found, RETURN_TOLERANCE)
    return None if difference is None else f"wrong return value, {difference}."


def first_wrong_line(expected: str, printed: str) -> str | None:
    """Where printed output first departs from what is expected, or None if it does not.

    Lines are compared word by word, without white space at either end of the output. Numbers are
    compared by value: those that are expected with a decimal point within ``TOLERANCE``, others
    exactly.
    """
    wanted, found = expected.strip().split("\n"), printed.strip().split("\n")
    for number, (one, other) in enumerate(zip(wanted, found, strict=False), start=1):
        words, others = one.split(), other.split()
        if len(words) != len(others) or not all(map(_same_word, words, others)):
            return f"wrong output in line {number}: {_shown(one)} expected, {_shown(other)} found."
    if len(wanted) != len(found):
        return f"wrong output: {len(wanted)} lines expected, {len(found)} found."
    return None


def _same_word(expected: str, found: str) -> bool:
    if expected == found:
        return True
    if not (_NUMBER.fullmatch(expected) and _NUMBER.fullmatch(found)):
        return False
    try:
        wanted, number = Decimal(expected), Decimal(found)
        if wanted == number:
            return True
        size = abs(wanted)
        if wanted == wanted.to_integral_value():
            size = min(size, Decimal(1))
        return "." in expected and abs(number - wanted) <= TOLERANCE * size
    except ArithmeticError:  # beyond what can be computed with
        return False


def _shown(line: str) -> str:
    return excerpt(line.strip(), 120)


def _blocks(text: str) -> list[str]:
    """The complete code blocks of Python in a text, in order."""
    blocks: list[str] = []
    label: str | None = None
    lines: list[str] = []
    for line in text.split("\n"):
        mark = line.strip()
        if not mark.startswith("```"):
            lines.append(line)
        elif label is None:
            label, lines = mark[3:].strip().lower(), []
        else:
            if label in _PYTHON:
                blocks.append("\n".join(lines))
            label = None
    return blocks
