"""SciKnowEval (Feng et al. 2024, arXiv 2406.09098): multiple choice in four sciences.

Each science is a task of its own: "physics", "chemistry", "biology", "materials". The physics of
Fast-Slow Training are 800 questions of level 3, reasoning, 720 to train on and 80 to test.

Two schemas are read. That of the hub: ``question``, ``choices`` (``text`` and ``label``),
``answerKey``, ``domain`` and ``details`` with a ``level``; of its rows those of the science and
level that have choices are taken. And that in which single sciences are handed on: ``prompt``, with
the choices in it as lines "A: ...", and ``answer``; all its rows are taken. Its ``system``, which
explains the format of answers, is left out: that is for the context to say.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

from fastslow.errors import InputError
from fastslow.grading.answers import choice_letter, extract_answer, tagged
from fastslow.places import PlaceOrName
from fastslow.tasks.feedback import lesson
from fastslow.tasks.names import register
from fastslow.tasks.protocol import Task
from fastslow.tasks.sourced import SourceOptions, split_source
from fastslow.tasks.sources import read_rows
from fastslow.text import excerpt
from fastslow.types import Problem, Split, Verdict

_CHOICE = re.compile(r"^([A-Z]): ?", re.MULTILINE)


class SciKnowEvalOptions(SourceOptions):
    """Options of the tasks "physics", "chemistry", "biology" and "materials"."""

    source: PlaceOrName = "hicai-zju/SciKnowEval"
    """The rows: a hub id, or a local file or folder."""
    level: Literal["L1", "L2", "L3", "L4", "L5"] | None = "L3"
    """Of rows in the hub's schema, those of this level; None: of any."""


@dataclass(frozen=True)
class Choice:
    """The reference of a problem: the right letter, and every option's text by its letter."""

    letter: str
    options: dict[str, str]


class SciKnowEval(Task):
    """SciKnowEval (arXiv 2406.09098): multiple choice of one science, answered by a letter."""

    def __init__(self, options: SciKnowEvalOptions) -> None:
        self._level = options.level
        self._splits = split_source(options, self._read, self.name)

    def problems(self, split: Split) -> Sequence[Problem]:
        return self._splits[split]

    def grade(self, problem: Problem, completion: str) -> Verdict:
        choice: Choice = problem.reference
        answer = extract_answer(completion)
        letter = None if answer is None else choice_letter(answer)
        worked = tagged(choice.letter)
        if letter == choice.letter:
            return Verdict(1.0, f"Right: {worked}")
        return Verdict(0.0, lesson(completion, choice.letter, worked, _remark(choice, letter)))

    def demonstrate(self, problem: Problem) -> str:
        return tagged(problem.reference.letter)

    def _read(self, source: str, split: Split) -> list[Problem]:
        # On the hub, all of the data set is one split of this name.
        rows = read_rows(source, [], hub_split=split if os.path.exists(source) else "test")
        problems = []
        for number, row in enumerate(rows, start=1):
            if self._wanted(row):
                question, choice = _read_row(row, f"{source}: row {number}")
                # Rows have no id, or not one that holds across files of them.
                digest = hashlib.sha256(question.encode("utf-8", "surrogatepass")).hexdigest()
                problems.append(Problem(f"{self.name}-{digest[:12]}", question, choice))
        if not problems:
            raise InputError(
                f"{source}: none of its {len(rows)} rows is a multiple choice of {self.name} at "
                f"level {self._level or 'any'}: give another source or task.level"
            )
        return problems

    def _wanted(self, row: dict[str, Any]) -> bool:
        """Whether a row belongs to this science and level, as far as it says."""
        if "domain" not in row:
            return True
        details = row.get("details") or {}
        science = str(row["domain"]).casefold().rstrip("s")  # the hub says "Material"
        level = details.get("level") if isinstance(details, dict) else None
        chosen = self._level is None or level == self._level
        return science == self.name.rstrip("s") and chosen and "mcq" in str(row.get("type"))


@register("physics", SciKnowEvalOptions)
class Physics(SciKnowEval):
    """Physics of SciKnowEval (arXiv 2406.09098): multiple choice, answered by a letter."""


@register("chemistry", SciKnowEvalOptions)
class Chemistry(SciKnowEval):
    """Chemistry of SciKnowEval (arXiv 2406.09098): multiple choice, answered by a letter."""


@register("biology", SciKnowEvalOptions)
class Biology(SciKnowEval):
    """Biology of SciKnowEval (arXiv 2406.09098): multiple choice, answered by a letter."""


@register("materials", SciKnowEvalOptions)
class Materials(SciKnowEval):
    """Materials of SciKnowEval (arXiv 2406.09098): multiple choice, answered by a letter."""


def _read_row(row: dict[str, Any], where: str) -> tuple[str, Choice]:
    """The question and the reference of a row in either schema. Raises: InputError."""
    if {"question", "choices", "answerKey"} <= set(row):
        answer = row["answerKey"]
        options = _options_of(row["choices"], where)
        question = "\n".join(
            [f"{row['question']}\n", *(f"{letter}: {text}" for letter, text in options.items())]
        )
    elif {"prompt", "answer"} <= set(row):
        question, answer = str(row["prompt"]), row["answer"]
        options = _options_in(question)
    else:
        raise InputError(
            f"{where}: expected the columns prompt and answer, or question, choices and "
            f"answerKey; found {', '.join(row)}"
        )
    letter = str(answer).strip().upper()
    if letter not in options:
        raise InputError(
            f"{where}: the answer is {answer!r}; the options are: {', '.join(options) or 'none'}. "
            'Options are read from lines such as "A: text"'
        )
    return question, Choice(letter, options)


def _options_in(prompt: str) -> dict[str, str]:
    """The options of a prompt: its last lines that begin with "A: ", "B: " and so on in turn.

    An option may go on over several lines, but for the last one: what follows is none of it."""
    marks: list[re.Match[str]] = []
    for mark in _CHOICE.finditer(prompt):
        if mark[1] == "A":
            marks = [mark]
        elif marks and ord(mark[1]) == ord(marks[-1][1]) + 1:
            marks.append(mark)
    options = {}
    for mark, following in zip_longest(marks, marks[1:]):
        text = prompt[mark.end() : following.start() if following else None].strip()
        options[mark[1]] = text if following else text.partition("\n")[0]
    return options


def _options_of(choices: Any, where: str) -> dict[str, str]:
    try:
        labels, texts = choices["label"], choices["text"]
        options = {str(label): str(text) for label, text in zip(labels, texts, strict=True)}
    except (TypeError, KeyError, ValueError):
        options = {}
    if not options:
        raise InputError(
            f"{where}: 'choices' is {excerpt(repr(choices), 80)}; expected lists label and text, "
            "equally long"
        )
    return options


def _remark(choice: Choice, letter: str | None) -> str:
    """What is wrong with a letter, if there is one, and what the right one stands for."""
    right = f"{choice.letter} is right: {excerpt(choice.options[choice.letter])}."
    if letter is None:
        return f"One letter must stand between the tags. {right}"
    if letter not in choice.options:
        return f"There is no option {letter}, only {', '.join(choice.options)}. {right}"
    return f"{letter} is wrong: {excerpt(choice.options[letter])}. {right}"
