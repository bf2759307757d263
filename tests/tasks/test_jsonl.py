from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.config import TaskConfig
from fastslow.errors import InputError
from fastslow.tasks import Task, create
from fastslow.types import SPLITS


def write(path: Path, rows: list[Any]) -> Path:
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def jsonl(path: Path, **options: Any) -> Task:
    return create(TaskConfig(name="jsonl", path=str(path), **options), 0, "c.toml")


def single(tmp_path: Path, row: dict[str, Any], **options: Any) -> Task:
    """A task whose one training problem is ``row``."""
    path = write(tmp_path / "train.jsonl", [row])
    other = write(tmp_path / "other.jsonl", [{**row, "question": "other"}])
    return jsonl(path, validation_path=str(other), test=0, **options)


def score(task: Task, answer: str) -> float:
    return task.grade(task.problems("train")[0], f"hm <answer>{answer}</answer>").score


def test_one_file_is_cut_in_three(tmp_path: Path) -> None:
    rows = [{"question": f"q{n}", "answer": n} for n in range(20)]
    path = write(tmp_path / "a.jsonl", [*rows, "", {"question": " Q3", "answer": 3}])
    task = jsonl(path, validation=0.2, test=3)
    ids = {split: [p.id for p in task.problems(split)] for split in SPLITS}
    assert [len(ids[split]) for split in SPLITS] == [13, 4, 3]
    assert len({i for split in SPLITS for i in ids[split]}) == 20
    assert ids["train"] != sorted(ids["train"])  # shuffled
    assert ids == {split: [p.id for p in jsonl(path, validation=0.2, test=3).problems(split)]
                   for split in SPLITS}  # fmt: skip
    assert ids != {split: [p.id for p in jsonl(path, validation=4, test=3, data_seed=1).problems(
        split)] for split in SPLITS}  # fmt: skip


def test_files_of_their_own_and_nothing_of_them_in_training(tmp_path: Path) -> None:
    train = write(tmp_path / "a.jsonl", [{"q": f"q{n}", "a": n, "key": f"k{n}"} for n in range(9)])
    held = write(tmp_path / "b.jsonl", [{"q": "Q3", "a": 3, "key": "k3"}])
    test = write(tmp_path / "c.jsonl", [{"q": "new", "a": 3, "key": "k55"}])
    task = jsonl(train, validation_path=str(held), test_path=str(test), question="q", answer="a",
                 id="key")  # fmt: skip
    assert [p.id for p in task.problems("validation")] == ["b.jsonl:k3"]
    assert [p.id for p in task.problems("test")] == ["c.jsonl:k55"]
    assert {p.id for p in task.problems("train")} == {f"a.jsonl:k{n}" for n in range(9) if n != 3}


@pytest.mark.parametrize(
    ("verifier", "reference", "right", "wrong"),
    [
        ("exact", "to be", [" to  be "], ["To be", "to be!", "2", ""]),
        ("numeric", "so #### 1,000", ["1000.0", "$1,000", "1e3", "999.9999999"], ["1001", "", "x"]),
        ("numeric", 0.1, [".1", "0.1 m"], ["0.10001", "-0.1", "1e999999999", "9" * 5000]),
        ("choice", "(b)", ["B", "b) Paris", "it is B"], ["A", "A or B", "", "Paris"]),
    ],
)
def test_verifiers(
    tmp_path: Path, verifier: str, reference: Any, right: list[str], wrong: list[str]
) -> None:
    task = single(tmp_path, {"question": "?", "answer": reference}, verifier=verifier)
    assert [score(task, answer) for answer in right] == [1.0] * len(right)
    assert [score(task, answer) for answer in wrong] == [0.0] * len(wrong)


def test_tolerance_is_relative_above_1_and_absolute_below(tmp_path: Path) -> None:
    large = single(tmp_path, {"question": "?", "answer": 200}, verifier="numeric", tolerance=0.01)
    assert [score(large, answer) for answer in ("202", "203")] == [1.0, 0.0]
    small = single(tmp_path, {"question": "?", "answer": 0}, verifier="numeric", tolerance=0.01)
    assert [score(small, answer) for answer in ("0.01", "0.02")] == [1.0, 0.0]


def test_choices_are_shown_and_solutions_demonstrated(tmp_path: Path) -> None:
    row = {"question": "Where?", "options": ["here", "there"], "answer": "B", "why": "Not here."}
    task = single(tmp_path, row, verifier="choice", choices="options", solution="why")
    problem = task.problems("train")[0]
    assert problem.question == "Where?\nA) here\nB) there"
    assert task.demonstrate(problem) == "Not here.\n<answer>B</answer>"
    feedback = task.grade(problem, "B").feedback
    assert "No complete <answer>" in feedback
    assert "Not here.\n<answer>B</answer>" in feedback


def test_no_demonstration_that_would_not_score_1(tmp_path: Path) -> None:
    task = single(tmp_path, {"question": "?", "answer": "</answer>"})
    assert task.demonstrate(task.problems("train")[0]) is None


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([{"question": "?", "answer": 1}, "{oops"], {}, r"a.jsonl: line 2: is not JSON: .*oops"),
        ([[1]], {}, r"a.jsonl: line 1: expected a JSON object"),
        (["", {"question": "?"}], {}, r"line 2: the key 'answer' is missing; .*has: question"),
        ([{"question": "?", "answer": None}], {}, r"line 1: 'answer' is None; expected text"),
        ([{"question": "?", "answer": "x"}], {"verifier": "numeric"}, r"'x', .* finds no answer"),
        ([{"question": "?", "answer": "A"}], {"choices": "c"}, r"line 1: 'c' is None; .*choices"),
        ([], {}, r"a.jsonl: the file holds no problem"),
        ([{"question": "?", "answer": 1}], {"validation": 1.5}, r"task\.validation: .*found 1\.5"),
        ([{"question": "?", "answer": 1}], {"verifer": 1}, r"did you mean 'verifier'"),
    ],
)
def test_wrong_input_is_explained(
    tmp_path: Path, rows: list[Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        jsonl(write(tmp_path / "a.jsonl", rows), **options)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone.jsonl: there is no such file"):
        jsonl(tmp_path / "gone.jsonl")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"binary.jsonl: cannot be read as UTF-8"):
        jsonl(tmp_path / "binary.jsonl")


@pytest.mark.parametrize("verifier", ["exact", "numeric", "choice"])
def test_any_text_is_graded(tmp_path: Path, verifier: str) -> None:
    answers = {"exact": "the one", "numeric": 123456789, "choice": "Q"}
    task = single(tmp_path, {"question": "?", "answer": answers[verifier]}, verifier=verifier)
    problem = task.problems("train")[0]

    @given(st.text(alphabet=st.characters()))
    def grade(text: str) -> None:
        assert task.grade(problem, text).score == 0.0
        task.grade(problem, f"<answer>{text}</answer>")

    grade()
