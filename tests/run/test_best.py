from __future__ import annotations

from typing import Any

import pytest

from fastslow.run.best import best_step


def row(step: int, accuracy: float, task: str = "t", context: str = "best") -> dict[str, Any]:
    return {
        "phase": "eval",
        "step": step,
        "task": task,
        "context": context,
        "accuracy": accuracy,
    }


RISE_AND_FALL = [row(0, 0.9), row(2, 0.2), row(4, 0.6), row(6, 0.6), row(8, 0.1)]


@pytest.mark.parametrize(
    ("rows", "steps", "best"),
    [
        (RISE_AND_FALL, range(1, 9), 4),  # of equals the first
        (RISE_AND_FALL, [6, 8], 6),
        (RISE_AND_FALL, [3, 5], None),  # nobody evaluated these
        ([row(2, 0.1), row(4, 0.9, context="seed")], [2, 4], 2),
        ([{"phase": "slow", "step": 2, "reward/mean": 1.0}], [2], None),
        ([], [2], None),
    ],
)
def test_the_best_is_the_most_accurate(
    rows: list[dict[str, Any]], steps: list[int], best: int | None
) -> None:
    assert best_step(rows, "best", steps) == best


def test_several_tasks_count_by_their_mean_and_more_of_them_count_more() -> None:
    rows = [
        row(2, 0.9, "a"),
        *(row(4, accuracy, task) for task, accuracy in (("a", 0.8), ("b", 0.2))),
        *(row(6, accuracy, task) for task, accuracy in (("a", 0.3), ("b", 0.6))),
    ]
    assert best_step(rows, "best", [2, 4, 6]) == 4
    assert best_step(rows, "best", [2]) == 2
    assert best_step(rows, "best", [2, 6]) == 6
