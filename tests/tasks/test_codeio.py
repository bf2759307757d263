from __future__ import annotations

import gzip
import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.config import TaskConfig
from fastslow.errors import InputError
from fastslow.tasks import Problem, create, programs
from fastslow.tasks.codeio import CodeIO
from fastslow.types import SPLITS

DATA = Path(__file__).parents[1] / "data"
GENERATED = DATA / "codeio_generated.jsonl"
RAW = DATA / "codeio_raw.jsonl"
PROMPTS = DATA / "codeio_prompts.jsonl"

needs_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the sandbox needs Linux"
)


@pytest.fixture(scope="module", autouse=True)
def small_runs_in_a_cache_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTSLOW_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(programs, "SECONDS", 0.3)
        patch.setattr(programs, "BATCH", 4)
        yield


def codeio(source: Path | str, **options: Any) -> CodeIO:
    sizes = {"train": 2, "validation": 1, "test": 1}
    task = create(
        TaskConfig(name="codeio", source=str(source), **{**sizes, **options}), 0, "c.toml"
    )
    assert isinstance(task, CodeIO)
    return task


def every_problem(task: CodeIO) -> list[Problem]:
    return [problem for split in SPLITS for problem in task.problems(split)]


@needs_linux
def test_programs_with_one_answer_become_problems_and_the_rest_is_counted() -> None:
    before = sorted(os.listdir())
    task = codeio(GENERATED, train=9)
    problems = every_problem(task)
    assert len({problem.id for problem in problems}) == len(problems) == 4
    assert task.left_out == {
        "differs from run to run": 1,
        "randomness without a seed": 1,
        "files": 1,
        "clock": 1,
        "time limit": 1,
    }
    benches = next(problem for problem in problems if "benches" in problem.question)
    shown = json.loads(benches.question.partition("given as JSON:\n")[2].partition("\n")[0])
    needed = [-(-group // shown["seats"]) for group in shown["groups"]]
    assert benches.reference == {
        "benches": sum(needed),
        "empty": sum(needed) * shown["seats"] - sum(shown["groups"]),
    }
    assert "def main_solution(groups, seats):" in benches.question
    assert sorted(os.listdir()) == before, "the programs leave no files behind"


@needs_linux
def test_the_data_follow_from_their_seed() -> None:
    one, again, other = (codeio(GENERATED, data_seed=seed) for seed in (0, 0, 1))
    assert every_problem(one) == every_problem(again)
    assert {p.question for p in every_problem(one)}.isdisjoint(
        p.question for p in every_problem(other)
    )


@needs_linux
def test_a_program_stands_in_one_split_however_many_problems_it_makes() -> None:
    task = codeio(GENERATED, inputs=3, train=6)
    programs = [
        {problem.question.split("```")[1] for problem in task.problems(split)} for split in SPLITS
    ]
    assert [len(task.problems(split)) for split in SPLITS] == [6, 1, 1]
    assert [len(found) for found in programs] == [2, 1, 1]
    assert len(set.union(*programs)) == 4


@needs_linux
def test_recorded_outputs_are_held_against_what_the_code_returns() -> None:
    task = codeio(RAW, train=1, test=0, inputs=2)
    with pytest.raises(InputError, match="no problem is left for train"):
        every_problem(task)
    (problem,) = task.problems("validation")
    assert problem.reference == 0.75
    assert "function stack is called" in problem.question
    assert task.left_out == {"returns another value than was recorded": 1}


@needs_linux
def test_prompts_are_taken_apart_and_run() -> None:
    task = codeio(PROMPTS, train=2, validation=1, test=0)
    (problem,) = task.problems("validation")
    assert problem.reference == {"short": [3], "all_short": False}
    assert '{"lengths": [3, 8], "limit": 5}' in problem.question
    assert "Can you predict" not in problem.question
    with pytest.raises(InputError, match="no problem is left for train"):
        task.problems("train")  # the other input is of the same program


@needs_linux
def test_long_questions_and_outputs_are_left_out() -> None:
    task = codeio(GENERATED, max_question=100)
    with pytest.raises(InputError, match="no problem is left"):
        task.problems("validation")
    assert task.left_out["question too long"] == 4
    task = codeio(GENERATED, max_output=4, train=1, test=0)
    assert {len(json.dumps(p.reference)) for p in every_problem(task)} <= {1, 4}


@pytest.fixture(scope="module")
def task() -> CodeIO:
    return codeio(GENERATED)


BENCHES = Problem("p", "?", {"benches": 3, "empty": 0.25})


@needs_linux
def test_the_demonstration_of_every_problem_scores_1(task: CodeIO) -> None:
    for problem in every_problem(task):
        worked = task.demonstrate(problem)
        assert task.grade(problem, f"First I count. {worked}").score == 1.0


@pytest.mark.parametrize(
    "answer",
    [
        '{"benches": 3, "empty": 0.25}',
        "{'empty': 0.25, 'benches': 3.0}",
        '```json\n{"benches": 3, "empty": 0.2501}\n```',
    ],
)
def test_the_same_value_is_right_however_it_is_written(task: CodeIO, answer: str) -> None:
    assert task.grade(BENCHES, f"<answer>{answer}</answer>").score == 1.0


@pytest.mark.parametrize(
    ("completion", "feedback"),
    [
        ('<answer>{"benches": 4, "empty": 0.25}</answer>', "$.benches: 3 expected, 4 found"),
        ('<answer>{"benches": true, "empty": 0.25}</answer>', "3 expected, true found"),
        ('<answer>{"benches": 3}</answer>', "$.empty: 0.25 expected, but this key is missing"),
        ("<answer>three</answer>", "no JSON value"),
        ("<answer>" + "[" * 10_000 + "</answer>", "It could not be read"),
        ("<answer>" + "9" * 1_000_000 + "</answer>", "longer than 100,000 characters"),
        ("<answer>exit()</answer>", "no JSON value"),
        ('{"benches": 3, "empty": 0.25}', "No complete <answer>...</answer> pair"),
        ("", "It was empty"),
    ],
)
def test_a_wrong_answer_is_told_where_it_is_wrong(
    task: CodeIO, completion: str, feedback: str
) -> None:
    verdict = task.grade(BENCHES, completion)
    assert verdict.score == 0.0
    assert feedback in verdict.feedback
    assert '<answer>{"benches": 3, "empty": 0.25}</answer>' in verdict.feedback


@given(st.text())
def test_no_text_scores_by_chance(task: CodeIO, text: str) -> None:
    assert task.grade(BENCHES, f"<answer>{text}</answer>").score == 0.0


def test_it_travels_to_the_graders(task: CodeIO) -> None:
    there = pickle.loads(pickle.dumps(task))
    assert there.grade(BENCHES, task.demonstrate(BENCHES)).score == 1.0


def test_rows_in_no_schema_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"question": "?", "code_sample": 1}\n')
    with pytest.raises(
        InputError, match=r"rows\.jsonl: row 1: .*; it has: question \(str\), code_"
    ):
        codeio(tmp_path / "rows.jsonl")
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Given the following output: 1"}\n')
    with pytest.raises(InputError, match="no row asks for an output"):
        codeio(tmp_path / "rows.jsonl")


@needs_linux
def test_the_rows_that_come_with_reasoning_gym_are_read() -> None:
    from reasoning_gym.data import get_data_file_path

    with gzip.open(get_data_file_path("codeio.jsonl.gz"), "rt", encoding="utf-8") as file:
        codes = {json.loads(line)["code_sample"].strip() for line in file}
    task = codeio("reasoning_gym", train=2, validation=1, test=1)
    for problem in every_problem(task):
        assert problem.question.partition("```python\n")[2].partition("\n```")[0] in codes
        assert task.grade(problem, task.demonstrate(problem)).score == 1.0
