from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastslow.config import TaskConfig
from fastslow.errors import InputError
from fastslow.tasks import Task, create
from fastslow.tasks.math_sets import MATH_SETS
from fastslow.types import SPLITS, Problem, Split, normalise_question

DATA = Path(__file__).parent.parent / "data" / "math"
VERL = {
    "source": str(DATA / "verl.json"),
    "question_column": "prompt.0.content",
    "answer_column": "reward_model.ground_truth",
}
BY_LEVEL = {"dataset": "math", "source": str(DATA / "levels.jsonl")}


def math(**options: Any) -> Task:
    return create(TaskConfig(name="math", **options), 0, "c.toml")


def gsm8k(**options: Any) -> Task:
    return math(dataset="gsm8k", source=str(DATA / "gsm8k"), **options)


def questions(task: Task, split: Split) -> set[str]:
    return {problem.question for problem in task.problems(split)}


def about(task: Task, word: str) -> Problem:
    """The one problem of a task whose question holds a word."""
    [problem] = [
        p for split in SPLITS for p in task.problems(split) if word in p.question
    ]  # fmt: skip
    return problem


def test_a_set_with_a_test_split_of_its_own() -> None:
    task = gsm8k(validation=2)
    assert any("bus" in question for question in questions(task, "test"))
    assert not any("bus" in q for q in questions(task, "train") | questions(task, "validation"))
    # Both files hold one question, which is dealt once.
    dealt = [normalise_question(p.question) for split in SPLITS for p in task.problems(split)]
    assert len(dealt) == len(set(dealt)) == 9


def test_a_file_is_cut() -> None:
    task = math(dataset="gsm8k", source=str(DATA / "gsm8k" / "train.jsonl"), validation=2, test=1)
    assert [len(task.problems(split)) for split in SPLITS] == [5, 2, 1]
    ids = {problem.id for split in SPLITS for problem in task.problems(split)}
    assert len(ids) == 8
    again = math(dataset="gsm8k", source=str(DATA / "gsm8k/train.jsonl"), validation=2, test=1)
    assert [again.problems(split) for split in SPLITS] == [task.problems(split) for split in SPLITS]


def test_the_answer_follows_the_marks_and_the_solution_comes_before() -> None:
    problem = about(gsm8k(), "jars")
    assert problem.reference.answers == ("42",)
    assert problem.reference.solution == "Seven crates hold 6*7 = 42 jars."


@pytest.mark.parametrize(
    ("style", "written"),
    [("tags", "<answer>{}</answer>"), ("boxed", r"\boxed{{{}}}"), ("number", "It is {}.")],
)
def test_every_style_is_graded(style: str, written: str) -> None:
    task = gsm8k(answer=style)
    stamps, loss = about(task, "stamps"), about(task, "loss")
    for right in ("1,750", "1750", "1750.0", "$1,750", "1{,}750", "1750 stamps"):
        assert task.grade(stamps, written.format(right)).score == 1.0, right
    for wrong in ("1.75", "1,75", "-1750", "1751", "", "1750 or 1751", "175"):
        assert task.grade(stamps, written.format(wrong)).score == 0.0, wrong
    assert task.grade(loss, written.format("\u221212")).score == 1.0
    assert task.grade(loss, written.format("12")).score == 0.0


@pytest.mark.parametrize("style", ["tags", "boxed", "number"])
@pytest.mark.parametrize("counts", ["last", "first"])
def test_demonstrations_score_1(style: str, counts: str) -> None:
    task = gsm8k(answer=style, counts=counts)
    for split in SPLITS:
        for problem in task.problems(split):
            shown = task.demonstrate(problem)
            assert shown is not None
            assert task.grade(problem, shown).score == 1.0
            assert "<<" not in shown
            assert "####" not in shown


def test_a_demonstration_shows_the_way() -> None:
    task = gsm8k()
    assert task.demonstrate(about(task, "jars")) == (
        "Seven crates hold 6*7 = 42 jars.\n<answer>42</answer>"
    )
    # Here the first number of the solution would be read as the answer.
    task = gsm8k(answer="number", counts="first")
    assert task.demonstrate(about(task, "jars")) == "42"


def test_feedback_teaches() -> None:
    task = gsm8k()
    problem = about(task, "stamps")
    feedback = task.grade(problem, "<answer>1,700</answer>").feedback
    assert "found was '1,700'" in feedback
    assert "numbers are not the same" in feedback
    assert "expected answer is '1,750'" in feedback
    assert "1500+250 = 1,750 stamps.\n<answer>1,750</answer>" in feedback
    assert "No complete <answer>" in task.grade(problem, "1,750").feedback
    assert task.grade(problem, "<answer>1750</answer>").feedback.startswith("Right: <answer>")


def test_long_solutions_are_cut_in_feedback_only(tmp_path: Path) -> None:
    lines = [f"Step {number}." for number in range(12)]
    rows = [{"problem": f"{n}?", "answer": f"{n}", "way": "\n".join(lines)} for n in range(3)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    task = math(source=str(tmp_path / "a.json"), solution_column="way", validation=1, test=1)
    problem = task.problems("train")[0]
    feedback = task.grade(problem, "").feedback
    assert "...\nStep 7." in feedback
    assert "Step 6." not in feedback
    assert "Step 0." in (task.demonstrate(problem) or "")


def test_a_percentage_is_right_where_one_was_asked_for() -> None:
    task = gsm8k()
    seeds, jars = about(task, "seeds"), about(task, "jars")
    assert task.grade(seeds, "<answer>75%</answer>").score == 1.0
    assert task.grade(seeds, "<answer>0.75</answer>").score == 0.0
    assert task.grade(jars, "<answer>42%</answer>").score == 0.0


def test_easy_to_hard() -> None:
    task = math(**BY_LEVEL, difficulty=[1, 3], evaluate_difficulty=[4, 5], validation=2, test=1)
    assert [len(task.problems(split)) for split in SPLITS] == [5, 2, 1]
    assert any("prime" in q for q in questions(task, "validation") | questions(task, "test"))
    assert {"What is $2^5$?", "Solve $x+3=5$."} <= questions(task, "train")
    # Without ranges of difficulty nothing is left out.
    everything = math(**BY_LEVEL, validation=2, test=1)
    assert sum(len(everything.problems(split)) for split in SPLITS) == 8


def test_ranges_that_overlap_share_no_question() -> None:
    task = math(**BY_LEVEL, difficulty=[1, 4], evaluate_difficulty=[3, 5], validation=1, test=1)
    trained, held = (
        questions(task, "train"),
        questions(task, "validation") | questions(task, "test"),
    )
    assert len(held) == 2
    assert not trained & held
    assert "Expand $(x+1)^2$." not in trained
    assert len(trained) == 7 - len(held - {"Expand $(x+1)^2$."})


def test_difficulty_as_a_share_of_attempts() -> None:
    polaris = {"dataset": "polaris", "source": str(DATA / "polaris.jsonl")}
    task = math(**polaris, difficulty=[0.5, 1], evaluate_difficulty=[0, 0.25], validation=2, test=1)
    assert [len(task.problems(split)) for split in SPLITS] == [3, 2, 1]
    assert "How many primes are below 10?" in questions(task, "train")


def test_algebra_is_graded() -> None:
    task = math(**BY_LEVEL, answer="boxed", validation=1, test=1)
    for word, right, wrong in [
        ("sqrt", r"\boxed{\sqrt{12}}", r"\boxed{3.46}"),
        ("Expand", r"\boxed{1+x(x+2)}", r"\boxed{x^2+2x}"),
        ("x^2=9", r"\boxed{\pm 3}", r"\boxed{3}"),
        ("x>2", r"\boxed{2<x<5}", r"\boxed{[2,5]}"),
        ("prime", r"\boxed{No}", r"\boxed{yes}"),
    ]:
        problem = about(task, word)
        assert task.grade(problem, right).score == 1.0, right
        assert task.grade(problem, wrong).score == 0.0, wrong
        assert task.demonstrate(problem) is not None


def test_columns_within_columns_and_answers_of_which_any_is_right() -> None:
    task = math(**VERL, validation=1, test=0)
    drop, root = about(task, "drop"), about(task, "root")
    assert drop.reference.answers == ("0.45", "0.5")
    assert root.reference.answers == ("3",)
    scores = [task.grade(drop, f"<answer>{x}</answer>").score for x in ("0.45", "1/2", "0.48")]
    assert scores == [1.0, 1.0, 0.0]
    assert "'0.45 or 0.5'" in task.grade(drop, "").feedback


def test_sets_for_evaluation_have_one_split() -> None:
    task = math(dataset="aime25", **VERL)
    assert len(task.problems("test")) == 2
    for split in ("train", "validation"):
        with pytest.raises(
            InputError, match=rf"'aime25' is for evaluation only and has no {split}"
        ):
            task.problems(split)


def test_every_known_set_has_something_to_evaluate_or_to_train_on() -> None:
    assert all(known.train or known.test for known in MATH_SETS.values())
    assert {name for name, known in MATH_SETS.items() if known.train} == {
        "polaris",
        "gsm8k",
        "math",
    }


def test_it_travels_to_graders_without_its_problems() -> None:
    task = gsm8k()
    problem = about(task, "jars")
    travelled = pickle.loads(pickle.dumps(task))
    travelled.warm_up()
    assert travelled.grade(problem, "<answer>42</answer>").score == 1.0


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([{"problem": "?", "answer": "1"}], {"dataset": "gms8k"}, r"did you mean 'gsm8k'"),
        ([{"problem": "?", "answer": "x"}], {"answer": "number"}, r"row 1: the answer 'x' is no n"),
        ([{"problem": "?", "answer": "#### "}], {}, r"row 1: 'answer' holds no answer"),
        ([{"problem": "?", "answer": []}], {}, r"row 1: 'answer' is an empty list"),
        ([{"problem": "?", "answer": None}], {}, r"row 1: 'answer' is None; expected text or a nu"),
        ([{"problem": " ", "answer": "1"}], {}, r"row 1: 'problem' is empty"),
        ([{"problem": "?"}], {}, r"item 1: no column 'answer'; it has: problem"),
        ([{"problem": "?", "answer": {}}], {"answer_column": "answer.x"}, r"'x' is missing"),
        ([{"problem": "?", "answer": "1"}], {"solution_column": "way"}, r"no column 'way'"),
        ([{"problem": "?", "answer": "1"}], {"difficulty": [1, 2]}, r"set task.difficulty_column"),
        ([{"problem": "?", "answer": "1"}], {"difficulty": [2, 1]}, r"task\.difficulty: expected "),
        ([{"problem": "?", "answer": "1"}], {"answer": "box"}, r"task\.answer: .*'boxed'"),
    ],
)
def test_wrong_input_is_explained(
    tmp_path: Path, rows: list[Any], options: dict[str, Any], message: str
) -> None:
    (tmp_path / "a.json").write_text(json.dumps(rows))
    with pytest.raises(InputError, match=message):
        math(source=str(tmp_path / "a.json"), **options)


def test_a_set_or_a_source_must_be_named() -> None:
    with pytest.raises(InputError, match=r"task\.dataset: name a set \(polaris, gsm8k, .*source"):
        math()


@pytest.mark.parametrize("style", ["tags", "boxed", "number"])
def test_any_text_is_graded(style: str) -> None:
    task = gsm8k(answer=style)
    problem = about(task, "pupils")

    @given(st.text())
    @settings(deadline=None)
    def grade(text: str) -> None:
        task.grade(problem, f"<answer>{text}</answer>\\boxed{{{text}}}")
        if not any(character.isdigit() for character in text):
            assert task.grade(problem, text).score == 0.0

    grade()
