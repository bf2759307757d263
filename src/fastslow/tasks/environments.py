"""Single-turn environments of the package ``verifiers``, by name.

An environment is an installed package, in one of two forms: a taskset (verifiers from 0.3 on), or a
module with ``load_environment`` that returns a ``SingleTurnEnv`` (from 0.1.9 to below 0.4). Its
rows are the problems and its own reward functions, which may be asynchronous, grade them. What has
tools, users, several turns or a container is refused.

These reward functions are the code of whoever wrote the environment, and may do what they like with
a completion: read it before you train on it.
"""

from __future__ import annotations

import asyncio
import importlib
import math
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from types import ModuleType
from typing import Annotated, Any, Literal

from pydantic import Field

from fastslow.config import Section, Size, SizeOrNone
from fastslow.errors import InputError
from fastslow.grading.answers import tagged
from fastslow.tasks.classic_environment import ClassicEnvironment
from fastslow.tasks.environment_rows import Environment, Reward, Row
from fastslow.tasks.names import register
from fastslow.tasks.protocol import Task
from fastslow.tasks.splits import Splits
from fastslow.tasks.taskset_environment import TasksetEnvironment
from fastslow.text import excerpt
from fastslow.types import Problem, ScoreError, Split, Verdict


class EnvironmentOptions(Section):
    """Options of the task "verifiers"."""

    environment: str
    """The name of the installed environment: "gsm8k", "owner/name", "name@version"."""
    arguments: Annotated[dict[str, Any], Field(max_length=1000)] = Field(default_factory=dict)
    """Its own: keys of a taskset's configuration, or parameters of ``load_environment``."""
    system_prompt: Literal["question", "leave_out"] = "question"
    """Where the environment's own system prompt goes: above every question, or nowhere, for a
    context that says it better."""
    partial: bool = False
    """Whether a completion may score between 0 and 1: its reward over ``max_reward``. Left alone,
    it scores 1 where its reward reaches ``max_reward``, and 0 elsewhere."""
    max_reward: Annotated[float, Field(gt=0, le=10**9)] | None = None
    """The reward that counts as 1; None: the sum of the positive weights of its functions. Then a
    reward beyond it ends the run, since a function that gives more than its weight could outweigh
    the one that says what is right."""
    train: Size = 1024
    """Problems to train on, at most."""
    validation: Size = 128
    """Of the environment's evaluation set where it has one, as ``test``."""
    test: SizeOrNone = 128
    """Problems for testing, at most."""


@register("verifiers", EnvironmentOptions)
class VerifiersEnvironment(Task):
    """Any single-turn environment of the package verifiers, graded by its own reward functions."""

    def __init__(self, options: EnvironmentOptions) -> None:
        self._options = options
        self._best = options.max_reward or self._environment.best
        if self._best <= 0:
            raise InputError(
                f"task.max_reward: {options.environment!r} has no reward function of a positive "
                "weight: say which reward counts as 1"
            )
        training = self._problems(evaluation=False)
        held_out = training
        if self._environment.has_evaluation:
            held_out = self._problems(evaluation=True)
        self._splits = Splits(
            {"train": training, "validation": held_out, "test": held_out},
            {"train": options.train, "validation": options.validation, "test": options.test},
            f"{self.name} ({options.environment})",
        )

    def __getstate__(self) -> dict[str, Any]:
        # An environment seldom travels: the process that grades opens its own.
        return {"_options": self._options, "_best": self._best}

    def warm_up(self) -> None:
        self._environment.best  # noqa: B018 - opens it

    @cached_property
    def _environment(self) -> Environment:
        return open_environment(self._options.environment, self._options.arguments)

    def problems(self, split: Split) -> Sequence[Problem]:
        return self._splits[split]

    def grade(self, problem: Problem, completion: str) -> Verdict:
        """What the environment raises is a failure of the verifier, and no score."""
        row: Row = problem.reference
        reward = run(self._environment.score(row.data, completion))
        if not math.isfinite(reward.total):
            raise ValueError(f"the environment's reward is {reward.total}")
        share = round(reward.total / self._best, 9)  # weights may add up to 0.9999999999999999
        if share > 1.0 and self._options.max_reward is None:
            raise ScoreError(
                f"the environment's reward is {reward.total:g}, beyond the sum of its functions' "
                f"weights, {self._best:g}: set task.max_reward to what a right answer gets"
            )
        score = min(max(share, 0.0), 1.0) if self._options.partial else float(share >= 1.0)
        return Verdict(score, _feedback(row, completion, reward, self._best))

    def demonstrate(self, problem: Problem) -> str | None:
        """The reference answer, bare or in a usual dress, as the environment scores it 1."""
        answer = problem.reference.answer
        if answer is None:
            return None
        dressed = (answer, f"\\boxed{{{answer}}}", tagged(answer), f"#### {answer}")
        return next((some for some in dressed if self.grade(problem, some).score == 1.0), None)

    def _problems(self, evaluation: bool) -> Iterator[Problem]:
        part = "evaluation" if evaluation else "training"
        for number, row in enumerate(self._environment.rows(evaluation)):
            yield Problem(f"{part}-{number}", self._question(row), row)

    def _question(self, row: Row) -> str:
        system = [text for role, text in row.messages if role == "system"]
        asked = [text for role, text in row.messages if role == "user"]
        if len(asked) != 1 or len(system) + len(asked) < len(row.messages):
            roles = ", ".join(role for role, _ in row.messages) or "nothing"
            raise InputError(
                f"task.environment: {self._options.environment}: a prompt consists of {roles}; "
                "only one message of a user, perhaps after one of the system, can be asked"
            )
        keep = self._options.system_prompt == "question"
        return "\n\n".join([*(system if keep else []), *asked])


def open_environment(name: str, arguments: dict[str, Any]) -> Environment:
    """The installed environment of a name.

    Raises:
        InputError: verifiers or the environment is not installed, or it is of no kind that can be
            asked in one turn.
    """
    try:
        verifiers = importlib.import_module("verifiers")
    except ImportError:
        raise InputError(
            "task.name: 'verifiers' needs the package of that name: pip install verifiers"
        ) from None
    try:
        module = _module(name)
        if module is not None and hasattr(module, "load_environment"):
            return ClassicEnvironment(verifiers, name, module, arguments)
        return TasksetEnvironment(importlib.import_module("verifiers.v1"), name, arguments)
    except InputError:
        raise
    except Exception as error:  # whatever the environment's own module raises
        advice = (
            "Install it first, with what it needs, by pip or `prime env install owner/name`"
            if isinstance(error, ImportError)
            else "Its arguments are those in task.arguments. An environment with load_environment "
            "needs verifiers below 0.4"
        )
        raise InputError(
            f"task.environment: {name!r} cannot be loaded: {type(error).__name__}: "
            f"{str(error).rstrip('.')}. {advice}"
        ) from error


def run(work: Coroutine[Any, Any, Reward]) -> Reward:
    """The outcome of a coroutine, in a notebook too, whose thread already runs a loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def _module(name: str) -> ModuleType | None:
    """The environment's own module; None where verifiers itself may know the name."""
    module = name.rpartition("/")[2].partition("@")[0].replace("-", "_")
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return None


def _feedback(row: Row, completion: str, reward: Reward, best: float) -> str:
    lines = [f"The environment's reward is {reward.total:.3g} of {best:.3g}."]
    lines += [f"- {name}: {score:.3g}" for name, score in reward.parts.items()]
    if reward.total < best:
        rules = [text for role, text in row.messages if role == "system"]
        lines += [f"The environment asks for: {excerpt(text, 1000)}" for text in rules]
        ending = completion.strip()[-200:]
        lines.append(f"The completion ended: {ending!r}." if ending else "It was empty.")
        if row.answer is not None:
            lines.append(f"The expected answer is {excerpt(row.answer, 1000)}.")
    return "\n".join(lines)
