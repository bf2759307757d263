"""Advantages and weights: one group per problem, every problem the same weight."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastslow import testing
from fastslow.slow.advantages import (
    Baseline,
    Truncated,
    centred,
    group_advantages,
    has_signal,
    leave_one_out,
    with_truncation,
)
from fastslow.slow.data import policy_gradient_data
from fastslow.testing import turn
from fastslow.types import Group, Problem, Rollout
from one_turn import advantage_of, completion_of, logprobs_of, prompt_of, weight_of

REWARDS = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1), min_size=2, max_size=9)


def rollout(problem: str, context: str, reward: float, tokens: int = 3) -> Rollout:
    said = turn(read=(len(context), 1), sampled=range(tokens))
    return testing.rollout(problem, context, reward, said, version=4)


def group(name: str, rollouts: Sequence[tuple[str, float, int]]) -> Group:
    return Group(Problem(name, f"{name}?"), tuple(rollout(name, *each) for each in rollouts))


@given(REWARDS)
def test_advantages_are_trl_s(rewards: list[float]) -> None:
    """TRL's GRPOTrainer with scale_rewards="group": (r - mean) / (std + 1e-4), std unbiased."""
    r = torch.tensor(rewards, dtype=torch.float64)
    expected = (r - r.mean()) / (r.std() + 1e-4)
    assert group_advantages(rewards, eps=1e-4) == pytest.approx(expected.tolist(), abs=1e-9)


@given(REWARDS)
def test_advantages_sum_to_zero_and_keep_the_order(rewards: list[float]) -> None:
    advantages = group_advantages(rewards)
    assert sum(advantages) == pytest.approx(0, abs=1e-6)
    ordered = [a for _, a in sorted(zip(rewards, advantages, strict=True))]
    assert ordered == sorted(ordered)


def test_a_known_group() -> None:
    # Mean 1/4, sample standard deviation 1/2.
    assert group_advantages([1, 0, 0, 0]) == pytest.approx([1.5, -0.5, -0.5, -0.5], rel=1e-5)


def test_a_lone_rollout_says_nothing() -> None:
    assert group_advantages([1.0]) == [0.0]
    assert group_advantages([]) == []
    assert not has_signal(group("a", [("c", 1.0, 3)]))


@pytest.mark.parametrize(
    "rewards",
    [
        [0.1 + 0.2, 0.3],
        [1.0, sum([0.1] * 10), 0.7 + 0.2 + 0.1],
        [0.1 + 0.2 - 0.3, 0.0],
        [1e-8, 1e-8 * (1 + 1e-9)],
        [float(torch.tensor(0.1) * 3), 0.3],  # float32
        [0.0, 0.0, 0.0],
    ],
)
def test_rewards_that_differ_by_rounding_are_equal(rewards: list[float]) -> None:
    assert group_advantages(rewards) == [0.0] * len(rewards)
    same = group("a", [("c", reward, 3) for reward in rewards])
    assert not has_signal(same)
    assert policy_gradient_data([same]) == []


@pytest.mark.parametrize("rewards", [[0.5, 0.50001], [1e-6, 2e-6], [0.0, 1e-6], [0.999, 1.0]])
def test_rewards_that_differ_by_little_differ(rewards: list[float]) -> None:
    assert has_signal(group("a", [("c", reward, 3) for reward in rewards]))
    low, high = group_advantages(rewards)
    assert low < 0 < high


def cut_off(name: str, rollouts: Sequence[tuple[float, int, bool]]) -> Group:
    made = [(rollout(name, "c", reward, tokens), whole) for reward, tokens, whole in rollouts]
    return Group(
        Problem(name, f"{name}?"),
        tuple(replace(r, turns=(replace(r.turns[0], finished=whole),)) for r, whole in made),
    )


MIXED = [(1.0, 3, True), (1.0, 9, False), (0.0, 5, True), (0.5, 7, False)]


def test_completions_that_were_cut_off_may_be_kept() -> None:
    mixed = cut_off("a", MIXED)
    assert with_truncation(mixed, "keep") is mixed
    data = policy_gradient_data([mixed], truncated="keep")
    assert [advantage_of(d) for d in data] == group_advantages([1.0, 1.0, 0.0, 0.5])
    assert [len(completion_of(d)) for d in data] == [3, 9, 5, 7]


@pytest.mark.parametrize("baseline", ["problem", "context"])
def test_masked_completions_count_in_the_baseline_alone(baseline: Baseline) -> None:
    mixed = cut_off("a", MIXED)
    assert with_truncation(mixed, "mask") is mixed
    data = policy_gradient_data([mixed], baseline=baseline, truncated="mask")
    first, _, third, _ = group_advantages([1.0, 1.0, 0.0, 0.5])
    assert [(len(completion_of(d)), advantage_of(d)) for d in data] == [(3, first), (5, third)]
    assert sum(sum(d.weights) for d in data) == pytest.approx(1)


def test_a_problem_whose_completions_are_all_masked_is_no_problem_of_the_batch() -> None:
    gone = cut_off("b", [(1.0, 3, False), (0.0, 9, False)])
    mixed = cut_off("a", MIXED)
    assert policy_gradient_data([gone, mixed], truncated="mask") == policy_gradient_data(
        [mixed], truncated="mask"
    )
    assert policy_gradient_data([gone], truncated="mask") == []


def test_completions_that_were_cut_off_may_score_0() -> None:
    zeroed = with_truncation(cut_off("a", MIXED), "zero")
    assert zeroed.rewards == (1.0, 0.0, 0.0, 0.0)
    data = policy_gradient_data([zeroed], truncated="zero")
    assert [advantage_of(d) for d in data] == group_advantages([1.0, 0.0, 0.0, 0.0])
    assert not has_signal(with_truncation(cut_off("b", [(1.0, 3, False), (0.0, 9, True)]), "zero"))


@pytest.mark.parametrize("truncated", ["keep", "mask", "zero"])
def test_nothing_changes_where_nothing_is_cut_off(truncated: Truncated) -> None:
    whole = group("a", [("c", 1.0, 3), ("c", 0.0, 4)])
    data = policy_gradient_data([with_truncation(whole, truncated)], truncated=truncated)
    assert data == policy_gradient_data([whole])


def test_the_advantage_is_formed_across_contexts() -> None:
    """A context whose rollouts all succeed has advantages too: the baseline is the problem's."""
    data = policy_gradient_data(
        [group("a", [("x", 1, 3), ("x", 1, 3), ("yy", 0, 3), ("yy", 0, 3)])]
    )
    expected = group_advantages([1, 1, 0, 0])
    assert [advantage_of(d) for d in data] == expected
    assert expected[0] == expected[1] > 0 > expected[2] == expected[3]


def test_each_problem_is_its_own_group() -> None:
    easy, hard = (
        group("easy", [("x", 1, 3), ("x", 1, 3), ("x", 0, 3)]),
        group("hard", [("x", 0, 3), ("x", 0, 3), ("x", 1, 3)]),
    )
    together = [advantage_of(d) for d in policy_gradient_data([easy, hard])]
    apart = [advantage_of(d) for each in (easy, hard) for d in policy_gradient_data([each])]
    assert together == apart


def test_groups_without_variance_are_dropped_and_not_refilled() -> None:
    kept = group("kept", [("x", 1, 3), ("x", 0, 3)])
    solved = group("solved", [("x", 1, 3), ("x", 1, 3)])
    failed = group("failed", [("x", 0, 3), ("x", 0, 3)])
    assert [has_signal(g) for g in (solved, kept, failed)] == [False, True, False]
    assert policy_gradient_data([solved, kept, failed]) == policy_gradient_data([kept])
    assert policy_gradient_data([solved, failed, group("empty", [])]) == []


LENGTHS = st.integers(1, 30)


@given(
    st.lists(
        st.lists(st.tuples(st.just("x"), st.sampled_from([0.0, 1.0]), LENGTHS), max_size=6),
        min_size=1,
        max_size=5,
    )
)
def test_every_problem_weighs_the_same(shapes: list[list[tuple[str, float, int]]]) -> None:
    groups = [group(f"p{number}", shape) for number, shape in enumerate(shapes)]
    kept = [g for g in groups if has_signal(g)]
    data = iter(policy_gradient_data(groups))
    for each in kept:
        mine = [next(data) for _ in each.rollouts]
        assert len({weight_of(d) for d in mine}) == 1, "the mean is over the problem's tokens"
        assert sum(sum(d.weights) for d in mine) == pytest.approx(1 / len(kept))
    assert next(data, None) is None


def test_a_datum_carries_what_was_sampled() -> None:
    (datum, _) = policy_gradient_data([group("a", [("x", 1, 2), ("yy", 0, 5)])])
    assert prompt_of(datum) == (1, 1)
    assert completion_of(datum) == (0, 1)
    assert logprobs_of(datum) == (-0.5, -0.5)
    assert datum.policy_version == 4


def test_a_baseline_per_context_compares_within_contexts_alone() -> None:
    mixed = group("a", [("c", 1.0, 3), ("d", 0.0, 2), ("c", 0.0, 1), ("d", 0.0, 5)])
    same = group("b", [("c", 1.0, 4), ("d", 0.0, 4), ("c", 1.0, 4), ("d", 0.0, 4)])
    # Of "b" every context has one reward only: it teaches by problem, and nothing by context.
    assert len(policy_gradient_data([mixed, same])) == 8
    data = policy_gradient_data([mixed, same], baseline="context")
    assert [len(completion_of(d)) for d in data] == [3, 1]
    assert [advantage_of(d) for d in data] == pytest.approx(group_advantages([1.0, 0.0]))
    assert sum(sum(d.weights) for d in data) == pytest.approx(1)


def test_problems_weigh_the_same_whatever_number_of_their_contexts_is_kept() -> None:
    both = group("a", [("c", 1.0, 3), ("c", 0.0, 3), ("d", 1.0, 2), ("d", 0.0, 2)])
    one = group("b", [("c", 1.0, 7), ("c", 0.0, 7), ("d", 0.0, 2), ("d", 0.0, 2)])
    data = policy_gradient_data([both, one], baseline="context")
    shares = [sum(d.weights) for d in data]
    assert sum(shares[:4]) == pytest.approx(0.5)
    assert sum(shares[4:]) == pytest.approx(0.5)
    assert len({weight_of(d) for d in data[:4]}) == 1


# Other estimators.


@given(REWARDS)
def test_estimators_are_their_formulas(rewards: list[float]) -> None:
    r = torch.tensor(rewards, dtype=torch.float64)
    others = [(r.sum() - own) / (len(r) - 1) for own in r]
    varied = not all(abs(a - rewards[0]) <= 1e-6 * max(a, rewards[0]) + 1e-9 for a in rewards)
    expected = [float(own - rest) if varied else 0.0 for own, rest in zip(r, others, strict=True)]
    assert leave_one_out(rewards) == pytest.approx(expected, abs=1e-6)
    mean = [float(own - r.mean()) if varied else 0.0 for own in r]
    assert centred(rewards) == pytest.approx(mean, abs=1e-6)


def test_a_baseline_over_the_batch_gives_problems_of_one_reward_a_signal() -> None:
    groups = [group("a", [("x", 1, 3), ("x", 1, 3)]), group("b", [("x", 0, 3), ("x", 0, 3)])]
    assert policy_gradient_data(groups) == []
    data = policy_gradient_data(groups, estimator="batch")
    assert [advantage_of(d) for d in data] == group_advantages([1, 1, 0, 0])
    assert policy_gradient_data(groups[:1], estimator="batch") == []
