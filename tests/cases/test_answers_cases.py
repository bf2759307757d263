"""Pairs of answer and reference that were decided beforehand, and completions that were misread.

A line of ``answers_cases.jsonl`` is {id, answer, reference, right, kind, policy}. ``policy`` is
true where a verifier may decide otherwise if it says so. Pairs that this one decides otherwise are
in ``OTHERWISE``, and docs/answers.md gives the policies.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastslow.config import TaskConfig
from fastslow.errors import InputError
from fastslow.grading.answers import choice_letter
from fastslow.grading.equivalence import mismatch
from fastslow.tasks import Task, create

PAIRS = [
    json.loads(line)
    for line in Path(__file__).with_name("answers_cases.jsonl").read_text("utf-8").splitlines()
]

KNOWN_MISSES: dict[str, str] = {}
"""Pairs beyond dispute that are graded wrongly, each with one word why."""

OTHERWISE = {
    "time": "P023 P024",
    "ratio of three terms": "P026",
    "decimal comma, decimal dot of thousands": "P067 P068 P069 P258",
    "two units in one": "P098",
    "named parts against a tuple": "P112",
    "letter and its value": "P126",
    "control tokens, marks": "P166 P234",
    "minutes of arc": "P260",
    "units of another size": "P095",
    "two forms of the same": "P286 P287",
    "other separators": "P312 P313 P377",
    "words for signs": "P142 P230 P231 P373",
    "letters that may be variables": "P229 P452 P492 P493 P494",
    "congruences": "P240 P241",
    "one sign for several values": "P206",
    "remarks behind the answer": "P288 P457 P458",
    "cases": "P289",
    "fonts of vectors": "P292",
    "name joined to a point": "P323",
    "typos": "P337",
    "digits in round brackets": "P350",
    "names of parts": "P213",
    "powers, factorials and logarithms of numbers": "P389 P390 P391 P394",
}
"""Pairs of policy that are decided otherwise, by the policy of docs/answers.md."""


def pair(entry: dict[str, Any]) -> Any:
    misses = KNOWN_MISSES.get(entry["id"])
    marks = [pytest.mark.xfail(strict=True, reason=misses)] if misses else []
    return pytest.param(entry, id=entry["id"], marks=marks)


@pytest.mark.parametrize("entry", [pair(entry) for entry in PAIRS if not entry["policy"]])
def test_a_pair_beyond_dispute(entry: dict[str, Any]) -> None:
    assert (mismatch(entry["answer"], entry["reference"]) is None) is entry["right"]


@pytest.mark.parametrize("entry", [pair(entry) for entry in PAIRS if entry["policy"]])
def test_a_pair_of_policy(entry: dict[str, Any]) -> None:
    otherwise = entry["id"] in " ".join(OTHERWISE.values()).split()
    verdict = mismatch(entry["answer"], entry["reference"]) is None
    assert verdict is (entry["right"] is not otherwise)


def graded(folder: Path, reference: object, completion: str, name: str, **options: Any) -> float:
    """The score of a completion in the task ``name``, which has one problem."""
    for file in ("train", "other"):
        row = {"question": file, "answer": reference}
        (folder / f"{file}.jsonl").write_text(json.dumps(row), encoding="utf-8")
    source, other = str(folder / "train.jsonl"), str(folder / "other.jsonl")
    if name == "jsonl":
        options |= {"path": source, "validation_path": other}
    else:
        options |= {"source": source, "validation_source": other, "question_column": "question"}
    task: Task = create(TaskConfig(name=name, test=0, **options), 0, "c.toml")
    return task.grade(task.problems("train")[0], completion).score


@pytest.mark.parametrize(
    ("style", "completion", "reference", "score"),
    [
        pytest.param("number", "The answer is **42**.", "42", 1.0, id="F001"),
        pytest.param("number", "2 + 2 = **4**", "4", 1.0, id="F002"),
        pytest.param("number", "**42 apples**", "42", 1.0, id="F003"),
        pytest.param("number", "**42 apples**", "2", 0.0, id="F004"),
        pytest.param("number", "**42.**", "42", 1.0, id="F005"),
        pytest.param("number", "**1,234**", "1234", 1.0, id="F006"),
        pytest.param("number", "It costs -$5", "-5", 1.0, id="F007"),
        pytest.param("number", "It costs -$5", "5", 0.0, id="F008"),
        pytest.param("number", "1 000 000", "0", 0.0, id="F009"),
        pytest.param("number", "1.5\u00b710^-3", "0.0015", 1.0, id="F010"),
        pytest.param("number", "1.5\u00b710^-3", "0.001", 0.0, id="F011"),
        pytest.param("number", "5 million", "5000000", 1.0, id="F012"),
        pytest.param("number", "5x", "5", 0.0, id="F013"),
        pytest.param("number", "\u215e", "0.875", 1.0, id="F014"),
        pytest.param("number", "10\u207b\u00b3", "0.001", 1.0, id="F015"),
        pytest.param("boxed", r"\fbox{5}", "5", 1.0, id="F016"),
        pytest.param("boxed", r"\boxed 5", "5", 1.0, id="F017"),
        pytest.param("boxed", "\\boxed\n{5}", "5", 1.0, id="F018"),
        pytest.param("boxed", r"x=\boxed{3}, y=\boxed{4}", "3,4", 1.0, id="F019"),
        pytest.param("boxed", r"\boxed{5 \approx 6}", "5", 0.0, id="G3-approximation"),
        pytest.param("boxed", r"\boxed{5$ 3}", "5", 0.0, id="G3-rest"),
        pytest.param("boxed", r"\boxed{wrong=5}", "5", 0.0, id="G3-negated"),
        pytest.param("boxed", r"\boxed{1,2,3,...}", "1,2,3", 0.0, id="G3-dots"),
        pytest.param("boxed", r"\boxed{\Pi}", r"\pi", 0.0, id="G3-look-alike"),
    ],
)
def test_a_completion_in_the_task_math(
    tmp_path: Path, style: str, completion: str, reference: str, score: float
) -> None:
    assert graded(tmp_path, reference, completion, "math", answer=style) == score


@pytest.mark.parametrize(
    ("verifier", "answer", "reference", "score"),
    [
        pytest.param("numeric", "**42 apples**", "2", 0.0, id="F020"),
        pytest.param("numeric", "The total is **18** dollars", "18", 1.0, id="F021"),
        pytest.param("numeric", "-$5", "5", 0.0, id="F022"),
        pytest.param("numeric", "0 1 2 3 4 5 6 7 8 9", "9", 0.0, id="F023"),
        pytest.param("numeric", "5, 6", "6", 0.0, id="F024"),
        pytest.param("exact", "cafe\u0301", "caf\u00e9", 1.0, id="F026"),
        pytest.param("exact", "5", 5.0, 1.0, id="F027"),
        pytest.param("exact", "1/2", "\u00bd", 1.0, id="F028"),
        pytest.param("choice", "anything but A", "A", 0.0, id="G5-but"),
        pytest.param("choice", "Not A", "A", 0.0, id="G5-not"),
    ],
)
def test_an_answer_in_the_task_jsonl(
    tmp_path: Path, verifier: str, answer: str, reference: object, score: float
) -> None:
    completion = f"<answer>{answer}</answer>"
    assert graded(tmp_path, reference, completion, "jsonl", verifier=verifier) == score


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        pytest.param("I think the answer is B", "B", id="F025"),
        ("I believe it is C.", "C"),
        ("The answer is b", "B"),
        ("Answer: (D)", "D"),
        ("A and C fail, so the answer is B.", "B"),
        ("**B**", "B"),
        (r"\text{B}", "B"),
        (r"\textbf{(B)}", "B"),
        ("$B$", "B"),
        ("No, it is B", "B"),
        ("I", "I"),
        pytest.param("Not A", None, id="G5"),
        ("anything but A", None),
        ("It can't be A", None),
        ("It isn't A", None),
        ("neither A nor B", None),
        ("the answer is not B", None),
        ("never B", None),
        ("all except D", None),
        ("B is wrong", None),
        ("(B) is not right", None),
        ("A is right, B is wrong", None),
        ("ABCD", None),
    ],
)
def test_the_letter_of_a_choice(text: str, letter: str | None) -> None:
    assert choice_letter(text) == letter


@pytest.mark.parametrize(
    ("row", "options", "told"),
    [
        pytest.param({"question": "", "answer": "x"}, {}, "'question' is empty", id="F096"),
        pytest.param(
            {"question": " \n", "answer": "x"}, {}, "'question' is empty", id="F096-space"
        ),
        pytest.param(
            {"question": "?", "answer": "E", "choices": ["x", "y"]},
            {"verifier": "choice", "choices": "choices"},
            "names no choice; the choices are A, B",
            id="F097",
        ),
    ],
)
def test_a_row_that_nobody_can_answer(
    tmp_path: Path, row: dict[str, Any], options: dict[str, Any], told: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(InputError, match=told):
        create(TaskConfig(name="jsonl", path=str(path), **options), 0, "c.toml")
