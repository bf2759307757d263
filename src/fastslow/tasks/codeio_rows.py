"""Rows of CodeI/O (arXiv 2502.07316) and of data sets like it, as programs that can be called.

Three public schemas are read:

- reasoning-gym's bundled rows: ``task_description``, ``input_output_spec``, ``code_sample``,
  ``input_generator``;
- ``hkust-nlp/CodeIO-PyEdu-Reasoning``: ``prompt`` (its ``turn_1`` and so on are not needed). Rows
  that ask for an input, "Given the following output", are left out;
- ``hkust-nlp/CodeIO-PyEdu-Reasoning-Raw``: ``problem_description``, ``io_requirements``,
  ``refcode``, ``funcname``, ``ios``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from fastslow.errors import InputError
from fastslow.tasks.json_values import read_value
from fastslow.tasks.sources import read_rows

BUNDLED = "reasoning_gym"
"""The source that comes with the package of that name and needs no network."""


@dataclass(frozen=True)
class Program:
    """A program with what is told of it, and the calls of it that its row offers.

    Attributes:
        description: what it is about.
        requirements: its arguments and what it returns, in words.
        code: its text.
        entry: name of the function that is called.
        generator: code of ``generate_inputs(rng)``, if its arguments are drawn.
        examples: its recorded arguments otherwise, each with the output recorded, if there is one.
    """

    description: str
    requirements: str
    code: str
    entry: str = "main_solution"
    generator: str | None = None
    examples: list[Example] = field(default_factory=list)


@dataclass(frozen=True)
class Example:
    """Recorded arguments, and the output recorded with them, if there is one."""

    arguments: dict[str, Any]
    output: Any = None
    has_output: bool = False


def read_programs(source: str, most: int) -> list[Program]:
    """The programs of a source, each once, in its order.

    Args:
        source: "reasoning_gym", a hub id, or a local file or folder.
        most: rows read from the hub, at most.

    Raises:
        InputError: it cannot be read, is in none of the schemas, or holds no program.
    """
    rows = _bundled_rows() if source == BUNDLED else _rows(source, most)
    programs: dict[str, Program] = {}
    for number, row in enumerate(rows, start=1):
        program = _program(row, f"{source}: row {number}")
        if program is None:
            continue
        # Rows on the same code are one program, or it could stand in two splits.
        known = programs.setdefault(program.code, program)
        if known is not program:
            known.examples.extend(program.examples)
    if not programs:
        raise InputError(f"{source}: no row asks for an output and shows the program that gives it")
    return list(programs.values())


def _rows(source: str, most: int) -> list[dict[str, Any]]:
    split = "train" if os.path.exists(source) else f"train[:{most}]"
    return read_rows(source, [], hub_split=split)


def _bundled_rows() -> list[dict[str, Any]]:
    import gzip
    import json

    from reasoning_gym.data import get_data_file_path

    with gzip.open(get_data_file_path("codeio.jsonl.gz"), "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _program(row: dict[str, Any], where: str) -> Program | None:
    """The program of a row, None if it has none to ask about. Raises: InputError."""
    match row:
        case {
            "task_description": str(description),
            "input_output_spec": str(requirements),
            "code_sample": str(code),
            "input_generator": str(generator),
        }:
            return Program(description, requirements, code.strip(), generator=generator)
        case {
            "problem_description": str(description),
            "io_requirements": str(requirements),
            "refcode": str(code),
            "funcname": str(entry),
            "ios": list(ios),
        }:
            return Program(description, requirements, code.strip(), entry, None, _examples(ios))
        case {"prompt": str(prompt)}:
            return _prompted(prompt)
    raise InputError(
        f"{where}: is in none of the schemas of this task: {_SCHEMAS}; "
        f"it has: {', '.join(f'{key} ({type(value).__name__})' for key, value in row.items())}"
    )


_SCHEMAS = (
    "task_description, input_output_spec, code_sample and input_generator; or "
    "problem_description, io_requirements, refcode, funcname and ios (a list); or prompt"
)


def _examples(ios: list[Any]) -> list[Example]:
    """The recorded calls of a row. Those with arguments that have no name cannot be shown."""
    return [
        Example(pair["input"], pair["output"], has_output=True)
        for pair in ios
        if isinstance(pair, dict) and "output" in pair and isinstance(pair.get("input"), dict)
    ]


_MARKS = (
    "variables as follows:",
    "The input and output requirements are as follows:",
    "Given the following input:",
    "Can you predict the output",
    "copy spans of code directly.",
)
"""What stands before each part of a prompt: description, requirements, input, task, code."""


def _prompted(prompt: str) -> Program | None:
    parts = []
    for mark in _MARKS:
        before, found, prompt = prompt.partition(mark)
        if not found:
            return None  # it asks for an input, or shows no code
        parts.append(before.strip())
    _, description, requirements, written, _ = parts
    try:
        arguments = read_value(written)
    except ValueError:
        return None
    if not isinstance(arguments, dict):
        return None
    return Program(description, requirements, prompt.strip(), examples=[Example(arguments)])
