from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastslow.config import TaskConfig
from fastslow.errors import InputError
from fastslow.tasks import Problem, Task, create
from fastslow.types import SPLITS

DATA = Path(__file__).parents[1] / "data"
HANDED_ON = DATA / "physics.jsonl"
HUB = DATA / "sciknoweval.jsonl"


def science(name: str, source: Path, **options: Any) -> Task:
    config = {"source": str(source), "validation": 1, "test": 0, **options}
    return create(TaskConfig.model_validate({"name": name, **config}), 0, "c.toml")


def every(task: Task) -> list[Problem]:
    return [problem for split in SPLITS for problem in task.problems(split)]


def about(task: Task, words: str) -> Problem:
    (problem,) = (problem for problem in every(task) if words in problem.question)
    return problem


def test_a_file_of_prompts_is_taken_whole() -> None:
    task = science("physics", HANDED_ON)
    lines = [json.loads(line) for line in HANDED_ON.read_text(encoding="utf-8").splitlines()]
    assert {problem.question for problem in every(task)} == {line["prompt"] for line in lines}
    assert [about(task, line["description"]).reference.letter for line in lines] == [
        line["answer"] for line in lines
    ]
    for problem in every(task):
        assert task.grade(problem, f"So. {task.demonstrate(problem)}").score == 1.0


def test_options_are_found_in_a_prompt() -> None:
    task = science("physics", HANDED_ON)
    assert about(task, "cart").reference.options == {
        "A": "2 m/s^2",
        "B": "3 m/s^2",
        "C": "4 m/s^2",
        "D": "48 m/s^2",
    }
    # An option of two lines, and one below which the prompt goes on.
    assert about(task, "Light").reference.options["B"] == "it stays\nas it was"
    assert about(task, "Light").reference.options["D"] == "it drops"


@pytest.mark.parametrize(
    ("name", "options", "questions"),
    [
        ("physics", {}, {"A cart of 4 kg", "Two resistors ", "Is heat a form"}),
        ("physics", {"level": "L1", "validation": 0}, {"What is the we"}),
        ("materials", {}, {"Which of these"}),
        ("chemistry", {"validation": 0}, {"Which of these"}),
    ],
)
def test_of_the_hubs_rows_those_of_a_science_and_level_are_taken(
    name: str, options: dict[str, Any], questions: set[str]
) -> None:
    task = science(name, HUB, **options)
    found = list(task.problems("train"))
    found += task.problems("validation") if options.get("validation", 1) else []
    assert {problem.question[:14] for problem in found} == questions
    assert all(problem.id.startswith(f"{name}-") for problem in found)
    for problem in found:
        assert task.grade(problem, task.demonstrate(problem) or "").score == 1.0


def test_the_hubs_choices_are_shown_as_lines() -> None:
    problem = about(science("physics", HUB), "heat")
    assert problem.question == "Is heat a form of energy?\n\nA: yes\nB: no"


@pytest.mark.parametrize(
    ("completion", "score", "lesson"),
    [
        ("<answer>B</answer>", 1.0, "Right: <answer>B</answer>"),
        ("<answer>\n(b) 3 m/s^2\n</answer>", 1.0, "Right"),
        ("<answer>C</answer>", 0.0, "C is wrong: '4 m/s^2'. B is right: '3 m/s^2'."),
        ("<answer>E</answer>", 0.0, "There is no option E, only A, B, C, D. B is right"),
        ("<answer>B or C</answer>", 0.0, "One letter must stand between the tags. B is right"),
        ("B", 0.0, "No complete <answer>"),
        ("", 0.0, "It was empty."),
    ],
)
def test_a_letter_is_graded_and_what_it_stands_for_is_told(
    completion: str, score: float, lesson: str
) -> None:
    task = science("physics", HANDED_ON)
    verdict = task.grade(about(task, "cart"), completion)
    assert verdict.score == score
    assert lesson in verdict.feedback
    assert "<answer>B</answer>" in verdict.feedback


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "Which?\nA: x\nB: y", "answer": "C"}, "row 1: the answer is 'C'; .*are: A, B"),
        ({"prompt": "Which?", "answer": "A"}, "the options are: none"),
        ({"question": "Which?"}, "expected the columns prompt and answer, .* found question"),
        (
            {"question": "Which?", "choices": ["x", "y"], "answerKey": "A"},
            "row 1: 'choices' is .*; expected lists label and text",
        ),
        (
            {"domain": "Biology", "details": {"level": "L3"}, "type": "mcq-4-choices"},
            "none of its 1 rows is a multiple choice of physics at level L3",
        ),
    ],
)
def test_what_cannot_be_read_is_named(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        science("physics", path)
