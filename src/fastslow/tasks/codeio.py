"""CodeI/O (arXiv 2502.07316): predict what a program returns from its code and its arguments.

The reference answer is what the code returns here, in the sandbox, every time it is run (see
``fastslow.tasks.programs``), whatever output the data set has recorded.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice, tee
from typing import Annotated, Any

from pydantic import Field

from fastslow.config import Positive, Section, Seed, Size, SizeOrNone
from fastslow.grading.answers import extract_answer, tagged
from fastslow.places import PlaceOrName
from fastslow.tasks.codeio_rows import BUNDLED, Example, Program, read_programs
from fastslow.tasks.feedback import lesson
from fastslow.tasks.json_values import first_difference, read_value, write_value
from fastslow.tasks.names import register
from fastslow.tasks.programs import Call, Returned, outcomes, refusal, refusal_of_generator
from fastslow.tasks.protocol import Task
from fastslow.tasks.splits import Splits
from fastslow.text import excerpt
from fastslow.types import Problem, Split, Verdict

logger = logging.getLogger("fastslow.tasks")


class CodeIOOptions(Section):
    """Options of the task "codeio"."""

    source: PlaceOrName = BUNDLED
    """"reasoning_gym" (its bundled rows), a hub id such as "hkust-nlp/CodeIO-PyEdu-Reasoning", or
    a local file or folder in one of the schemas."""
    rows: Positive = 20_000
    """Rows read from the hub, at most."""
    inputs: Positive = 1
    """Problems made of one program for training, at most. No program stands in two splits."""
    max_question: Positive = 8000
    """Characters of a question, at most."""
    max_output: Positive = 500
    """Characters of an answer as JSON, at most."""
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 1e-3
    """Relative error allowed of a number that is not whole: as much as CodeI/O's own check."""
    train: Size = 1024
    """Problems to train on, at most."""
    validation: Size = 128
    """Problems for validation, at most."""
    test: SizeOrNone = 128
    """Problems for testing, at most."""
    data_seed: Seed = 0
    """The data depend on this and not on the run's seed."""


@register("codeio", CodeIOOptions)
class CodeIO(Task):
    """CodeI/O (arXiv 2502.07316): predict a program's output, compared as JSON values."""

    def __init__(self, options: CodeIOOptions) -> None:
        self._options = options
        self.left_out: Counter[str] = Counter()
        """Calls and rows that no problem was made of, so far, by the reason."""
        programs = read_programs(options.source, options.rows)
        random.Random(options.data_seed).shuffle(programs)
        # One iterator of programs feeds all splits, so that each program goes to one of them.
        shared = self._generate(programs)
        first = (problems[0] for problems in shared)
        self._splits = Splits(
            {
                "train": (problem for problems in shared for problem in problems),
                "validation": first,
                "test": first,
            },
            {"train": options.train, "validation": options.validation, "test": options.test},
            self.name,
        )

    def problems(self, split: Split) -> Sequence[Problem]:
        before = self.left_out.total()
        problems = self._splits[split]
        if self.left_out.total() > before:
            reasons = ", ".join(f"{reason} ({n})" for reason, n in self.left_out.most_common())
            logger.info("%s: calls and rows left out so far: %s", self.name, reasons)
        return problems

    def grade(self, problem: Problem, completion: str) -> Verdict:
        expected = problem.reference
        answer = extract_answer(completion)
        remark = None if answer is None else self._mistake(expected, answer)
        if answer is not None and remark is None:
            return Verdict(1.0, f"Right: {excerpt(write_value(expected))} between the answer tags.")
        worked = self.demonstrate(problem)
        return Verdict(0.0, lesson(completion, write_value(expected), worked, remark))

    def demonstrate(self, problem: Problem) -> str:
        return tagged(write_value(problem.reference))

    def _mistake(self, expected: Any, answer: str) -> str | None:
        """What is wrong with an answer, or None if it is right."""
        try:
            found = read_value(answer)
        except ValueError as error:
            return f"It could not be read: {error}. The answer must be one JSON value."
        difference = first_difference(expected, found, self._options.tolerance)
        return None if difference is None else f"The values differ at {difference}."

    def _generate(self, programs: Iterable[Program]) -> Iterator[list[Problem]]:
        """The problems of each program that has any, in order. Runs programs as it goes."""
        one, other = tee(self._calls(programs))
        found = zip(one, outcomes(call for _, _, call in other), strict=True)
        for program, group in groupby(found, key=lambda item: item[0][0]):
            made = [self._problem(program, example, what) for (_, example, _), what in group]
            if problems := [problem for problem in made if problem is not None]:
                yield problems

    def _calls(self, programs: Iterable[Program]) -> Iterator[tuple[Program, Example | None, Call]]:
        for program in programs:
            generator = program.generator
            reason = refusal(program.code) or (generator and refusal_of_generator(generator))
            if reason:
                self.left_out[reason] += 1
            elif generator is not None:
                for number in range(self._options.inputs):
                    seed = _digest(f"{self._options.data_seed} {number} {program.code}")
                    call = Call(
                        program.code, program.entry, generator=generator, seed=int(seed, 16)
                    )
                    yield program, None, call
            else:
                for example in islice(program.examples, self._options.inputs):
                    yield program, example, Call(program.code, program.entry, example.arguments)

    def _problem(
        self, program: Program, example: Example | None, outcome: Returned | str
    ) -> Problem | None:
        """The problem that a call makes, or None, counted by its reason."""
        if isinstance(outcome, str):
            self.left_out[outcome] += 1
            return None
        question = _question(program, outcome.arguments)
        if len(question) > self._options.max_question:
            self.left_out["question too long"] += 1
        elif len(write_value(outcome.output)) > self._options.max_output:
            self.left_out["output too long"] += 1
        elif (
            example is not None
            and example.has_output
            and first_difference(example.output, outcome.output, self._options.tolerance)
        ):
            self.left_out["returns another value than was recorded"] += 1
        else:
            return Problem(_digest(question), question, outcome.output)
        return None


def _question(program: Program, arguments: dict[str, Any]) -> str:
    return (
        f"{program.description}\n\n{program.requirements}\n\n"
        f"This program answers it:\n\n```python\n{program.code}\n```\n\n"
        f"Its function {program.entry} is called with these arguments, given as JSON:\n"
        f"{write_value(arguments)}\n\n"
        "What does it return? Work it out without running anything. The answer is one JSON value: "
        "an object, an array, a number, a string, true, false or null."
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
