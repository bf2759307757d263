"""The datasets of reasoning-gym, graded on what stands between the answer tags.

A dataset is graded by its own scorer, or by one of ours where its own gives full marks to wrong
answers (``tasks.scorers``). Which are, and which are refused, stands in docs/scorers.md.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import difflib
import io
import json
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from fastslow.config import Section, Seed, Size, SizeOrNone
from fastslow.errors import InputError
from fastslow.grading.answers import extract_answer, tagged
from fastslow.tasks.feedback import lesson
from fastslow.tasks.names import register
from fastslow.tasks.protocol import Task
from fastslow.tasks.scorers import SCORERS, is_right
from fastslow.tasks.screen import EVALUATORS, SCREENS
from fastslow.tasks.splits import Splits
from fastslow.text import excerpt
from fastslow.types import Problem, Split, Verdict

logger = logging.getLogger("fastslow.tasks")

LIMIT = 20_000
"""Characters of an answer, at most: a longer one scores 0 unread."""

_OURS = frozenset({"size", "seed"})
"""Parameters of every dataset that follow from the options of the task."""

_LARGEST = 10**6
"""Largest number in ``params`` and largest text or list, unless the dataset's own default is within
a factor of 1000 of it: generators build lists and texts of the lengths that they are given."""

_EXAMPLES = ("example_correct_answer", "example_answer", "possible_answer")
"""Where datasets that accept many answers, and have no reference, keep one that is right."""


_REFUSED = {
    "codeio": (
        'it runs the programs of its rows in this process: take the task "codeio", whose '
        "programs are the same and run in a sandbox"
    ),
    "composite": (
        "the scorers of its parts would be shown answers unscreened: give every part a task of its "
        "own, and mix them as [[stages.mix]] does"
    ),
    "propositional_logic": (
        "a premise, copied, is a right conclusion of it, so no scorer can ask for more: take "
        '"knights_knaves", "self_reference" or "zebra_puzzles", which have one answer'
    ),
}
"""Datasets that would run what nobody has read, or cannot be scored, each with the reason and what
to take instead."""

_BALANCED: dict[str, dict[str, Any]] = {
    "string_insertion": {"min_string_length": 80, "max_string_length": 120},
    "syllogism": {"invalid_ratio": 0.5},
}
"""Parameters for datasets whose own defaults make one thoughtless answer right too often: 95 % of
short strings stay as they are, 69 % of the conclusions follow. With these, about half do."""


class ReasoningGymOptions(Section):
    """Options of the task "reasoning_gym"."""

    dataset: str
    """A dataset of reasoning-gym by its name there; docs/scorers.md lists them."""
    params: Annotated[dict[str, Any], Field(max_length=1000)] = Field(default_factory=dict)
    """The dataset's own parameters, except ``size`` and ``seed``. Left alone, those that decide how
    often "Yes", or the unchanged input, is right are balanced in "syllogism" and
    "string_insertion"."""
    partial: bool = False
    """Whether an answer may score between 0 and 1, by the dataset's own rules. Many of these pay
    half for nothing. Datasets with a scorer of ours never give partial credit."""
    train: Size = 1024
    """Problems to train on."""
    validation: Size = 128
    """Problems for validation."""
    test: SizeOrNone = 128
    """Problems for testing."""
    data_seed: Seed = 0
    """The data depend on this and not on the run's seed."""


@register("reasoning_gym", ReasoningGymOptions)
class ReasoningGym(Task):
    """Nearly any dataset of reasoning-gym, with its own parameters and a scorer that was tried."""

    def __init__(self, options: ReasoningGymOptions) -> None:
        from reasoning_gym.factory import DATASETS

        name = options.dataset
        if name not in DATASETS:
            near = difflib.get_close_matches(name, DATASETS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise InputError(
                f"task.dataset: reasoning-gym has no dataset {name!r}; {hint}"
                f"Allowed: {', '.join(sorted(DATASETS.keys() - _REFUSED.keys()))}"
            )
        dataset_class, config_class = DATASETS[name]
        _refuse_unsafe(name, dataset_class)
        # Few distinct questions, as in sums of single digits, repeat themselves: draw some more.
        self._draws = 4 * (options.train + options.validation + options.test) + 64
        self._config = _dataset_config(name, config_class, options, size=self._draws)
        self._dataset = _build(name, dataset_class, self._config)
        self._dataset_name = name
        self._partial = options.partial
        stream = self._generate()
        self._splits = Splits(
            {"train": stream, "validation": stream, "test": stream},
            {"train": options.train, "validation": options.validation, "test": options.test},
            f"{self.name} ({name})",
        )

    def __getstate__(self) -> dict[str, Any]:
        # The dataset itself may hold functions, and has problems that grading does not need.
        return {
            "_dataset_name": self._dataset_name,
            "_partial": self._partial,
            "_config": dataclasses.replace(self._config, size=1),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        from reasoning_gym.factory import DATASETS

        vars(self).update(state)
        self._dataset = DATASETS[self._dataset_name][0](config=self._config)

    def problems(self, split: Split) -> Sequence[Problem]:
        return self._splits[split]

    def grade(self, problem: Problem, completion: str) -> Verdict:
        entry: dict[str, Any] = problem.reference
        answer = extract_answer(completion)
        score, remark = (0.0, None) if answer is None else self._score(answer, entry)
        if score == 1.0:
            return Verdict(1.0, f"Right: {excerpt(answer or '')} between the answer tags.")
        expected = _expected(entry)
        worked = None if expected is None else tagged(expected)
        return Verdict(score, lesson(completion, expected, worked, remark))

    def demonstrate(self, problem: Problem) -> str | None:
        expected = _expected(problem.reference)
        if expected is None:
            return None
        worked = tagged(expected)
        return worked if self.grade(problem, worked).score == 1.0 else None

    def _score(self, answer: str, entry: dict[str, Any]) -> tuple[float, str]:
        """The dataset's own score of an answer, within [0, 1], and a remark on it."""
        if len(answer) > LIMIT:
            return 0.0, f"The answer is longer than {LIMIT} characters and was not read."
        if self._dataset_name in SCORERS:
            if is_right(self._dataset_name, answer, entry):
                return 1.0, "It is right."
            return 0.0, "It is wrong, or not in the form asked for."
        screen = SCREENS.get(self._dataset_name)
        if screen is not None and not screen(answer):
            return (
                0.0,
                "The answer is not in the form asked for, and nothing but that form is read.",
            )
        score = _safe_score(self._dataset, answer, entry)
        if math.isnan(score):
            return 0.0, "The scorer could not read the answer: it is not in the form asked for."
        if not 0.0 <= score <= 1.0:
            return 0.0, f"The scorer gave it {score:.2f}, which is no score between 0 and 1."
        remark = f"It scores {score:.2f} of 1."
        if score == 1.0 or self._partial:
            return score, remark
        return 0.0, f"{remark} Nothing below 1 counts."

    def _generate(self) -> Iterator[Problem]:
        for index in range(self._draws):
            try:
                with contextlib.redirect_stdout(io.StringIO()):  # some generators print
                    entry = self._dataset[index]
            except Exception as error:
                logger.warning(
                    "reasoning_gym: %s ends after %d problems: %s: %s",
                    self._dataset_name, index, type(error).__name__, error,
                )  # fmt: skip
                return
            yield Problem(f"{self._dataset_name}-{index}", entry["question"], entry)


def _safe_score(dataset: Any, answer: str, entry: dict[str, Any]) -> float:
    """``dataset.score_answer`` without what it prints or warns of; NaN if it raises."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # A copy: some scorers write into what they are given.
            return float(dataset.score_answer(answer, copy.deepcopy(entry)))
    except MemoryError:
        raise  # that is no fault of the answer's form
    except Exception:  # whatever a scorer trips over in a text that a model wrote
        return math.nan


def _refuse_unsafe(name: str, dataset_class: type) -> None:
    """Refuse a dataset that runs programs of others, and a scorer that evaluates answers
    unscreened, as a newer version may bring one."""
    if name in _REFUSED:
        raise InputError(f"task.dataset: {name!r} of reasoning-gym is refused: {_REFUSED[name]}")
    if name in SCORERS:
        return  # its own scorer is shown nothing
    names = set(dataset_class.score_answer.__code__.co_names)  # type: ignore[attr-defined]
    if name not in SCREENS and (found := sorted(names & EVALUATORS)):
        raise InputError(
            f"task.dataset: the scorer of {name!r} evaluates what the model wrote "
            f"({', '.join(found)}), and fastslow does not know how to make that safe: "
            "choose another dataset"
        )


def _largest(field: dataclasses.Field[Any]) -> int:
    """The largest number that a parameter may be or hold, and its greatest length."""
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    numbers = [abs(part) for part in _parts(default) if isinstance(part, int | float)]
    return max([_LARGEST, *(1000 * math.ceil(number) for number in numbers)])


def _refuse_large(key: str, value: Any, largest: int) -> None:
    """Raises: InputError if a number in ``value`` or a length exceeds ``largest``."""
    for part in _parts(value):
        size = abs(part) if isinstance(part, int | float) else len(part)
        if not size <= largest:  # NaN is refused as well
            kind = "is" if isinstance(part, int | float) else "has the length"
            raise InputError(
                f"{key}: {kind} {size:.6g}; allowed: numbers and lengths up to {largest}"
            )


def _parts(value: Any) -> Iterator[Any]:
    """Every number, text, list and table in a value, itself included."""
    if isinstance(value, int | float | str | list | tuple | dict):
        yield value
    inner = [*value, *value.values()] if isinstance(value, dict) else value
    for item in inner if isinstance(inner, list | tuple) else ():
        yield from _parts(item)


def _dataset_config(name: str, config_class: type, options: ReasoningGymOptions, size: int) -> Any:
    """The dataset's configuration object. Raises: InputError, naming the parameter at fault."""
    allowed = {field.name: field for field in dataclasses.fields(config_class)}
    for key in _OURS:
        allowed.pop(key, None)
    for key in options.params:
        if key in _OURS:
            raise InputError(
                f"task.params.{key}: is not set here: the size follows from task.train, "
                "task.validation and task.test, the seed is task.data_seed"
            )
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise InputError(
                f"task.params.{key}: the dataset {name!r} has no such parameter; {hint}"
                f"Allowed: {_describe(allowed.values())}"
            )
        _refuse_large(f"task.params.{key}", options.params[key], _largest(allowed[key]))
    balanced = _BALANCED.get(name, {})
    params = (
        options.params if balanced.keys() & options.params.keys() else balanced | options.params
    )
    try:
        # Checks the types, which a dataclass does not, and makes tuples of TOML's arrays.
        return TypeAdapter(config_class).validate_python(
            {**params, "seed": options.data_seed, "size": size}
        )
    except ValidationError as error:
        item = error.errors()[0]
        key = ".".join(map(str, item["loc"]))
        raise InputError(
            f"task.params.{key}: {item['msg'][0].lower()}{item['msg'][1:]}; "
            f"found {item['input']!r}. Allowed: {_describe(allowed.values())}"
        ) from None


def _build(name: str, dataset_class: type, config: Any) -> Any:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return dataset_class(config=config)
    except Exception as error:  # datasets assert, compare and index their parameters as they like
        fields = [field for field in dataclasses.fields(config) if field.name not in _OURS]
        raise InputError(
            f"task.params: the dataset {name!r} refuses these parameters: "
            f"{type(error).__name__}: {error}. Its parameters and their defaults: "
            f"{_describe(fields)}"
        ) from error


def _describe(fields: Any) -> str:
    return ", ".join(
        field.name if field.default is dataclasses.MISSING else f"{field.name} = {field.default!r}"
        for field in fields
    )


def _expected(entry: dict[str, Any]) -> str | None:
    """The reference answer, or an example of a right one where there are many."""
    if entry["answer"] is not None:
        return str(entry["answer"])
    for key in _EXAMPLES:
        if (example := entry["metadata"].get(key)) is not None:
            return example if isinstance(example, str) else json.dumps(example)
    return None
