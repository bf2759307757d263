"""Environments of the package verifiers. What needs the package itself is skipped without it; both
of its forms are tested for real where a version is installed that has them."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastslow.config import TaskConfig
from fastslow.errors import InputError
from fastslow.tasks import Task, create, environments
from fastslow.tasks.environment_rows import Reward, Row, text_of
from fastslow.tasks.environments import run
from fastslow.tasks.grading import Graders
from fastslow.types import SPLITS, Failure, ScoreError, Verdict

SYSTEM = ("system", "Put the sum in a box.")


class Sums:
    """An environment that scores the sum 0.8 and the box around it 0.2, and crashes on demand."""

    has_evaluation = True
    best = 1.0

    def __init__(self, *messages: tuple[str, str]) -> None:
        self._messages = messages

    def rows(self, evaluation: bool) -> Iterator[Row]:
        for number in range(100, 110) if evaluation else range(10**9):
            asked = self._messages or (SYSTEM, ("user", f"{number} + 1?"))
            yield Row(asked, {"number": number}, str(number + 1))

    async def score(self, data: dict[str, Any], completion: str) -> Reward:
        await asyncio.sleep(0)
        if "crash" in completion:
            raise RuntimeError("out of fuel")
        if "infinite" in completion:
            return Reward(float("nan"), {})
        if "parts" in completion:
            return Reward(0.7 + 0.2 + 0.1, {})  # a little below 1
        if "wordy" in completion:
            return Reward(float(completion.count("wordy")), {})
        box = 0.2 * ("\\boxed{" in completion)
        right = 0.8 * (f"{{{data['number'] + 1}}}" in completion)
        return Reward(box + right, {"box": box, "right": right})


def task(monkeypatch: pytest.MonkeyPatch, *messages: tuple[str, str], **options: Any) -> Task:
    monkeypatch.setattr(environments, "open_environment", lambda name, given: Sums(*messages))
    return make("sums", **{"train": 20, "validation": 4, "test": 3, **options})


def make(environment: str, **options: Any) -> Task:
    data = {"name": "verifiers", "environment": environment, **options}
    return create(TaskConfig.model_validate(data), 0, "c.toml")


def test_problems_are_dealt_from_its_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = task(monkeypatch)
    assert [len(sums.problems(split)) for split in SPLITS] == [20, 4, 3]
    assert sums.problems("train")[0].question == "Put the sum in a box.\n\n0 + 1?"
    assert sums.problems("test")[0].question.endswith("104 + 1?")
    bare = task(monkeypatch, system_prompt="leave_out")
    assert bare.problems("train")[0].question == "0 + 1?"


def test_rewards_become_verdicts_that_teach(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = task(monkeypatch, partial=True)
    problem = sums.problems("train")[4]
    assert sums.demonstrate(problem) == "\\boxed{5}"
    assert sums.grade(problem, "\\boxed{5}").score == 1.0
    wrong = sums.grade(problem, "Well, \\boxed{6}")
    assert wrong.score == pytest.approx(0.2)
    for told in ("reward is 0.2 of 1", "- box: 0.2", "- right: 0", "ended: 'Well", "'5'", "a box."):
        assert told in wrong.feedback
    assert sums.grade(problem, "parts").score == 1.0


def test_an_environment_that_fails_gives_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = task(monkeypatch)
    problem = sums.problems("train")[0]
    with Graders(sums, here=True) as graders:
        right, crash, infinite = graders.grade(
            [(problem, text) for text in ("\\boxed{1}", "crash", "infinite")]
        )
    assert isinstance(right, Verdict)
    assert isinstance(crash, Failure)
    assert crash.reason == "it raised RuntimeError: out of fuel"
    assert isinstance(infinite, Failure)
    assert infinite.reason == "it raised ValueError: the environment's reward is nan"


def test_the_best_reward_may_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = task(monkeypatch, max_reward=0.4, partial=True)
    problem = sums.problems("train")[0]
    assert sums.grade(problem, "\\boxed{9}").score == pytest.approx(0.5)
    assert sums.grade(problem, "\\boxed{1}").score == 1.0


def test_only_the_whole_reward_counts_unless_parts_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sums = task(monkeypatch)
    problem = sums.problems("train")[0]
    wrong = sums.grade(problem, "\\boxed{9}")
    assert wrong.score == 0.0
    assert "reward is 0.2 of 1" in wrong.feedback
    assert sums.grade(problem, "\\boxed{1}").score == 1.0
    assert sums.grade(problem, "parts").score == 1.0
    with pytest.raises(ValueError, match="the environment's reward is"):
        sums.grade(problem, "infinite")


@pytest.mark.parametrize("partial", [False, True])
def test_a_reward_beyond_the_maximum_is_a_fault_of_the_task(
    partial: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a function counts words, and outweighs the one that says what is right."""
    sums = task(monkeypatch, partial=partial)
    with pytest.raises(ScoreError, match=r"beyond the sum .* set task\.max_reward"):
        sums.grade(sums.problems("train")[0], "wordy " * 30)
    told = task(monkeypatch, partial=partial, max_reward=10.0)
    assert told.grade(told.problems("train")[0], "wordy " * 30).score == 1.0


@pytest.mark.parametrize(
    ("messages", "roles"),
    [
        ([("user", "1 + 1?"), ("assistant", "2"), ("user", "2 + 2?")], "user, assistant, user"),
        ([SYSTEM], "system"),
    ],
)
def test_a_conversation_is_refused(
    messages: list[tuple[str, str]], roles: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=f"consists of {roles}; only one message of a user"):
        task(monkeypatch, *messages).problems("train")


def test_verdicts_can_be_had_within_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = task(monkeypatch)
    problem = sums.problems("train")[0]

    async def notebook() -> float:
        return sums.grade(problem, "\\boxed{1}").score

    assert asyncio.run(notebook()) == 1.0
    assert run(Sums().score({"number": 1}, "\\boxed{2}")).total == 1.0


def test_only_text_is_read() -> None:
    assert text_of([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "x") == "a\nb"
    with pytest.raises(InputError, match=r"'x' shows more than text \(image_url, text\)"):
        text_of([{"type": "text", "text": "a"}, {"type": "image_url"}], "x")


def test_without_the_package_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "verifiers", None)
    with pytest.raises(InputError, match=r"c\.toml: task\.name: .*pip install verifiers"):
        make("anything")


# With the package.


def has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


tasksets = pytest.mark.skipif(
    not has("verifiers.v1.utils.loaders"), reason="no verifiers with tasksets (0.3 or later) here"
)
classic = pytest.mark.skipif(
    not (has("verifiers.envs.singleturn_env") and has("datasets")),
    reason="no verifiers with load_environment (below 0.4) here",
)

TASKSET = """
import asyncio

import verifiers.v1 as vf


class Data(vf.TaskData):
    answer: str


class Config(vf.TasksetConfig):
    count: int = 12


class Letters(vf.Task[Data]):
    @vf.reward(weight=0.8)
    async def right(self, trace) -> float:
        await asyncio.sleep(0)
        return float(vf.extract_boxed_answer(trace.last_reply, strict=True) == self.data.answer)

    @vf.reward(weight=0.2)
    async def boxed(self, trace) -> float:
        if "crash" in trace.last_reply:
            raise RuntimeError("out of fuel")
        return float("boxed" in trace.last_reply)

    @vf.metric
    async def length(self, trace) -> float:
        return float(len(trace.last_reply))


class Alphabet(vf.Taskset[Letters, Config]):
    def load(self):
        for number in range(self.config.count):
            yield Letters(Data(prompt=f"Letter {number}?", answer=chr(97 + number)))


__all__ = ["Alphabet"]
"""

IN_A_BOX = TASKSET.replace("right(self, trace)", "right(self, trace, runtime)")

CLASSIC = """
import asyncio

import verifiers as vf
from datasets import Dataset


def load_environment(count=12, kind="SingleTurnEnv", compare=False):
    def letters(first):
        rows = [{"question": f"Letter {n}?", "answer": chr(97 + n)} for n in range(first, count)]
        return Dataset.from_list(rows)

    parser = vf.XMLParser(["answer"])

    async def right(parser, completion, answer):
        await asyncio.sleep(0)
        return float(parser.parse_answer(completion) == answer)

    def best_of(completions):
        return [0.0 for _ in completions]

    rubric = vf.Rubric(funcs=[right], weights=[2.0], parser=parser)
    if compare:
        rubric.add_reward_func(best_of)
    if kind == "ToolEnv":
        return vf.ToolEnv(tools=[], dataset=letters(0), rubric=rubric)
    return vf.SingleTurnEnv(
        dataset=letters(0), eval_dataset=letters(6), system_prompt="Tag it.", rubric=rubric
    )
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    modules = {"fs_alphabet": TASKSET, "fs_box": IN_A_BOX, "fs_letters": CLASSIC, "fs_bad": "1 / 0"}
    for name, text in modules.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in modules:
        sys.modules.pop(name, None)


SIZES = {"train": 6, "validation": 3, "test": 3}


@tasksets
@pytest.mark.usefixtures("installed")
def test_a_taskset_is_asked_and_scored() -> None:
    letters = make("me/fs-alphabet@1.0", arguments={"count": 13}, **SIZES)
    assert [len(letters.problems(split)) for split in SPLITS] == [6, 3, 3]
    for split in SPLITS:
        for problem in letters.problems(split):
            worked = letters.demonstrate(problem)
            assert worked == f"\\boxed{{{problem.reference.answer}}}"
            assert letters.grade(problem, worked).score == 1.0
    verdict = letters.grade(letters.problems("train")[0], "\\boxed{?}")
    assert verdict.score == 0.0
    assert "reward is 0.2" in verdict.feedback
    assert "- right: 0" in verdict.feedback
    assert "- length: 9" in verdict.feedback
    with pytest.raises(Exception, match="out of fuel"):
        letters.grade(letters.problems("train")[0], "crash")


@tasksets
@pytest.mark.usefixtures("installed")
def test_a_taskset_is_scored_in_another_process() -> None:
    letters = make("fs_alphabet", **SIZES)
    problems = letters.problems("train")
    with Graders(letters, workers=1) as graders:
        pairs = [(problem, f"\\boxed{{{problem.reference.answer}}}") for problem in problems]
        assert [verdict.score for verdict in graders.grade(pairs)] == [1.0] * 6
        assert graders.demonstrate(problems[0]) == pairs[0][1]
        assert not graders._here


@tasksets
@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("fs_alphabet", {"count": 0}, "holds no task"),
        ("fs_alphabet", {"cout": 9}, "cout"),
        ("fs_box", {}, r"scores in a container \(right\)"),
        ("fs_bad", {}, "cannot be loaded: ZeroDivisionError"),
        ("fs_nowhere", {}, "fs_nowhere.* Install it first"),
        ("json", {}, "exports no Taskset"),
    ],
)
def test_what_is_no_taskset_for_one_completion_is_refused(
    name: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=rf"c\.toml: task\.environment: [\s\S]*{message}"):
        make(name, arguments=arguments, **SIZES)


@classic
@pytest.mark.usefixtures("installed")
def test_a_single_turn_environment_is_asked_and_scored() -> None:
    letters = make("fs-letters", **SIZES)
    assert [len(letters.problems(split)) for split in SPLITS] == [6, 3, 3]
    assert letters.problems("validation")[0].question == "Tag it.\n\nLetter 6?"
    for split in SPLITS:
        for problem in letters.problems(split):
            worked = letters.demonstrate(problem)
            assert worked == f"<answer>{problem.reference.answer}</answer>"
    verdict = letters.grade(letters.problems("train")[0], "?")
    assert verdict.score == 0.0
    assert "reward is 0 of 2" in verdict.feedback


@classic
@pytest.mark.usefixtures("installed")
def test_a_single_turn_environment_is_scored_in_another_process() -> None:
    letters = make("fs_letters", **SIZES)
    problem = letters.problems("train")[0]
    with Graders(letters, workers=1) as graders:
        (verdict,) = graders.grade([(problem, f"<answer>{problem.reference.answer}</answer>")])
        assert verdict.score == 1.0
        assert not graders._here


@classic
@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "ToolEnv"}, "is a ToolEnv; only a SingleTurnEnv"),
        ({"compare": True}, "scores completions against each other"),
        ({"colour": 1}, "unexpected keyword argument 'colour'. Its arguments are those"),
    ],
)
def test_what_is_no_single_turn_environment_is_refused(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make("fs_letters", arguments=arguments, **SIZES)
