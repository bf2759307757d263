"""Lessons: every problem weighs the same, and each rollout has the teacher it was given."""

import pytest

from fastslow.slow.distillation import lessons
from fastslow.types import Completion, Group, Problem, Rollout, Verdict


def group(name: str, *lengths: int) -> Group:
    rollouts = [
        Rollout(
            name,
            "seed",
            Completion((1, n), tuple(range(n)), (-0.5,) * n, "", True, policy_version=4),
            Verdict(0.0),
        )
        for n in lengths
    ]
    return Group(Problem(name, f"{name}?"), tuple(rollouts))


def test_every_problem_weighs_the_same_without_regard_to_rewards() -> None:
    groups = [group("a", 3, 5), group("b", 1, 1)]
    found = lessons(groups, lambda turn, g: [(9, turn, n) for n in range(len(g.rollouts))])
    assert [lesson.teacher_prompt_ids for lesson in found] == [
        (9, 0, 0),
        (9, 0, 1),
        (9, 1, 0),
        (9, 1, 1),
    ]
    assert [lesson.prompt_ids for lesson in found] == [(1, 3), (1, 5), (1, 1), (1, 1)]
    assert [len(lesson.logprobs) for lesson in found] == [3, 5, 1, 1]
    assert {lesson.policy_version for lesson in found} == {4}
    weights = [lesson.weight * len(lesson.token_ids) for lesson in found]
    assert weights[0] + weights[1] == pytest.approx(0.5)
    assert weights[2] + weights[3] == pytest.approx(0.5)
    assert found[0].weight == found[1].weight


def test_a_problem_without_a_teacher_is_passed_over() -> None:
    groups = [group("a", 2), group("b", 4)]
    (lesson,) = lessons(groups, lambda turn, g: [(7,)] if g.problem.id == "b" else [])
    assert lesson.prompt_ids == (1, 4)
    assert lesson.weight == pytest.approx(1 / 4)
    assert lessons(groups, lambda turn, g: []) == []
