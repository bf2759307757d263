"""Attacks on scorers of others, by the id of the case: what paid for nothing, and pays nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from fastslow.config import TaskConfig
from fastslow.errors import InputError
from fastslow.grading.answers import tagged
from fastslow.tasks import Task, create

Attack = Callable[[dict[str, Any]], str]
"""An answer from a problem as the dataset generates it."""


def gym(dataset: str, **options: Any) -> Task:
    sizes = {"train": 20, "validation": 1, "test": 0, "data_seed": 5}
    return create(
        TaskConfig(name="reasoning_gym", dataset=dataset, **sizes, **options), 0, "c.toml"
    )


def out_of_nothing(entry: dict[str, Any]) -> str:
    """The target of a letter divided by itself, and the numbers times nothing."""
    numbers, target = entry["metadata"]["numbers"], entry["metadata"]["target"]
    return f"(a-a)*({'+'.join(map(str, numbers))}) + " + "+".join(["a/a"] * target)


def off_by_nearly_one(entry: dict[str, Any]) -> str:
    return str([str(float(number) + 0.9) for number in entry["metadata"]["sorted_numbers"]])


def echoed_board(entry: dict[str, Any]) -> str:
    return "\n".join(
        " ".join(str(cell or "_") for cell in row) for row in entry["metadata"]["puzzle"]
    )


CASES: list[tuple[str, str, Attack | str]] = [
    ("G11", "game_of_life_halting", "x"),
    ("G11", "puzzle24", "6*4*1*1"),
    ("G11", "countdown", out_of_nothing),
    ("G11", "coin_flip", "0"),
    ("G11", "number_sorting", off_by_nearly_one),
    ("G12", "game_of_life", json.dumps([[0] * 10] * 10)),
    ("G12", "time_intervals", "00:00"),
    ("G12", "prime_factorization", lambda entry: str(entry["metadata"]["number"])),
    ("G12", "sudoku", echoed_board),
    ("G12", "mini_sudoku", echoed_board),
    ("G12", "string_manipulation", lambda entry: entry["metadata"]["string"]),
    ("G12", "rectangle_count", "3"),
    ("G12", "self_reference", "2"),
    ("G12", "polynomial_equations", "0"),
    ("G12", "shortest_path", "infeasible"),
    ("G12", "gsm_symbolic", lambda entry: f"{entry['answer']} or 7"),
    ("G12", "word_sorting", lambda entry: f"{entry['answer']}, or, more"),
]


@pytest.mark.parametrize(
    ("dataset", "attack"),
    [pytest.param(name, attack, id=f"{case}-{name}") for case, name, attack in CASES],
)
def test_nothing_is_paid_for_a_wrong_answer(dataset: str, attack: Attack | str) -> None:
    task = gym(dataset)
    right = 0
    for problem in task.problems("train"):
        entry = problem.reference
        answer = attack if isinstance(attack, str) else attack(entry)
        if dataset == "puzzle24" and sorted(entry["metadata"]["numbers"]) == [1, 1, 4, 6]:
            continue  # there it is right
        score = task.grade(problem, tagged(answer)).score
        assert score == same(answer, entry["answer"])
        right += int(score)
    assert right <= 14, "right by luck, at most, not always"


def same(answer: str, reference: str) -> bool:
    """Whether an attack happens to give the reference."""
    try:
        return float(answer) == float(reference)
    except ValueError:
        return answer.replace(" ", "") == reference.replace(" ", "")


@pytest.mark.parametrize(
    ("dataset", "instead"),
    [
        pytest.param("propositional_logic", "knights_knaves", id="G11-propositional_logic"),
        pytest.param("codeio", 'the task "codeio"', id="codeio"),
        pytest.param("composite", "stages.mix", id="composite"),
    ],
)
def test_what_cannot_be_scored_is_refused(dataset: str, instead: str) -> None:
    with pytest.raises(InputError, match=rf"'{dataset}' .*refused: .*{instead}"):
        gym(dataset)
