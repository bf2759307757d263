"""What the rows of metrics.jsonl say of a batch and of an evaluation, counted by hand."""

from __future__ import annotations

import pytest

from fastslow.measure.accuracy import mean_at_k
from fastslow.measure.rows import count_tokens, evaluation_measures, reward_measures
from fastslow.testing import rollout, turn
from fastslow.types import Group, Problem


def group(name: str, **scores: float) -> Group:
    """A problem with a completion for each text and its score; an underscore stands for a space
    and what follows a double one tells equal texts apart."""
    problem = Problem(name, f"{name}?")
    rollouts = [
        rollout(problem, "context", score, turn(text.split("__")[0], sampled=(1, 2)))
        for text, score in scores.items()
    ]
    return Group(problem, tuple(rollouts))


FIRST = group("first", a=1.0, b=1.0, b__2=1.0, c=0.5)
SECOND = group("second", x=0.0, x__2=0.0, x__3=0.0, x__4=0.0)


def test_an_evaluation() -> None:
    found = evaluation_measures([FIRST, SECOND])
    interval = mean_at_k([[1.0, 1.0, 1.0, 0.5], [0.0] * 4])
    assert found == {
        "accuracy": pytest.approx(3.5 / 8),
        "problems": 2,
        "n": 8,
        "accuracy/low": interval.low,
        "accuracy/high": interval.high,
        "pass@2": pytest.approx(0.5),  # of the first, any two hold a right one
        "pass@4": pytest.approx(0.5),
        "distinct/completions": 2.0,  # 3 and 1
        "distinct/correct": 1.0,  # 2 and 0
        "truncated/fraction": 0.0,
    }


def test_one_problem_has_no_interval_and_one_completion_no_diversity() -> None:
    assert evaluation_measures([group("only", a=1.0)]) == {
        "accuracy": 1.0,
        "problems": 1,
        "n": 1,
        "truncated/fraction": 0.0,
    }


def test_pass_at_k_goes_as_far_as_the_least_sampled_problem() -> None:
    found = evaluation_measures([FIRST, group("second", x=0.0, y=1.0, z=0.0)])
    assert found["pass@2"] == pytest.approx((1 + 2 / 3) / 2)
    assert "pass@4" not in found


def test_a_batch() -> None:
    assert reward_measures([FIRST, SECOND]) == {
        "groups/kept": 1,
        "groups/dropped": 1,
        "reward/mean": pytest.approx(3.5 / 8),
        "reward/std": pytest.approx((3.25 / 8 - (3.5 / 8) ** 2) ** 0.5),
        "truncated/fraction": 0.0,
    }
    assert reward_measures([]) == {"groups/kept": 0, "groups/dropped": 0}
    assert count_tokens([*FIRST.rollouts, *SECOND.rollouts]) == 16
