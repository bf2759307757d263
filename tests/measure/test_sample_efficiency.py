from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from fastslow.measure.efficiency import (
    Curve,
    Efficiency,
    Samples,
    efficiency_ratio,
    learning_curve,
    samples_to_reach,
)
from fastslow.run.record import RunRecord, read_run

Make = Callable[..., Any]


@pytest.fixture
def fst(write_run: Make, slow: Make, evaluated: Make) -> RunRecord:
    """Two cycles of two steps on 4 problems, one of them left out of the third step."""

    def step(number: int, reward: float, reused: int, left_out: int = 0) -> dict[str, Any]:
        return slow(
            number,
            **{
                "reward/mean": reward,
                "groups/kept": 3 - left_out,
                "groups/dropped": 1,
                "rollouts/reused": reused,
                "tokens/reused": 10 * reused,
                "rollouts/sampled": 8 - reused,
                "tokens/sampled": 10 * (8 - reused),
            },
        )

    def fast(at: int) -> dict[str, Any]:
        row = {"step": at, "cycle": at // 2, "phase": "fast", "time": 0.0}
        return {**row, "rollouts/sampled": 20, "tokens/sampled": 200}

    metrics = [
        evaluated(0, "seed", 0.0),
        fast(0),
        step(1, 0.1, reused=6),
        step(2, 0.2, reused=0),
        evaluated(2, "seed", 0.05),
        evaluated(2, "best", 0.4),
        evaluated(2, "population", 0.3),
        fast(2),
        step(3, 0.3, reused=2, left_out=1),
        step(4, 0.5, reused=0),
        evaluated(4, "seed", 0.1),
        evaluated(4, "best", 0.6),
        evaluated(4, "population", 0.5),
    ]
    return read_run(write_run(metrics=metrics, slow={"problems": 4}, fast={"every": 2, "pool": 5}))


def test_evaluations_by_what_they_had_cost(fst: RunRecord) -> None:
    curve = learning_curve(fst)
    assert curve.steps == [0, 2, 4]
    assert curve.rewards == [0.0, 0.4, 0.6]  # before the first fast phase there is the seed context
    assert curve.samples == [Samples(0, 0, 0), Samples(8, 16, 160), Samples(15, 32, 320)]
    assert curve.samples_with_fast == [
        Samples(0, 0, 0),
        Samples(13, 30, 300),  # 20 in the fast phase, 2 + 8 after it; 5 problems are set aside
        Samples(21, 64, 640),
    ]
    assert curve.counts("rollouts", include_fast=True) == [0, 30, 64]
    assert curve.counts("tokens", include_fast=False) == [0, 160, 320]


@pytest.mark.parametrize(
    ("context", "steps", "rewards"),
    [
        ("seed", [0, 2, 4], [0.0, 0.05, 0.1]),
        ("best", [0, 2, 4], [0.0, 0.4, 0.6]),
        ("population", [0, 2, 4], [0.0, 0.3, 0.5]),
    ],
)
def test_a_context_may_be_chosen(
    fst: RunRecord, context: str, steps: list[int], rewards: list[float]
) -> None:
    curve = learning_curve(fst, context)
    assert (curve.steps, curve.rewards) == (steps, rewards)


def test_a_batch_does_not_cost_itself(fst: RunRecord) -> None:
    curve = learning_curve(fst, phase="slow")
    assert curve.steps == [0, 1, 2, 3]
    assert curve.rewards == [0.1, 0.2, 0.3, 0.5]
    assert curve.counts("rollouts", include_fast=False) == [0, 8, 16, 24]
    assert curve.counts("rollouts", include_fast=True) == [20, 22, 50, 56]
    assert curve.counts("problems", include_fast=True) == [5, 9, 13, 17]


def test_every_stage_sets_problems_aside_for_its_demonstrations(
    write_run: Make, evaluated: Make
) -> None:
    def problems(**changes: Any) -> list[float]:
        metrics = [
            evaluated(0, "seed", 0.1),
            *({"step": step, "cycle": 0, "phase": "fast"} for step in (0, 2)),
            evaluated(4, "best", 0.3),  # before the fast phase that begins the second stage
            *({"step": step, "cycle": 0, "phase": "fast"} for step in (4, 6)),
            evaluated(8, "best", 0.3),
        ]
        stages = [{"task": {"name": "star_graph", "d": d}, "steps": 4} for d in (2, 3)]
        changes = {"fast": {"every": 2, "pool": 5}, **changes}
        run = write_run(
            metrics=metrics, steps=None, task=None, stages=stages, slow={"problems": 4}, **changes
        )
        curve = learning_curve(read_run(run), task="star_graph")
        return curve.counts("problems", include_fast=True)

    assert problems() == [0, 16 + 5, 32 + 5 + 5]
    rewritten = {"components": ["instructions"], "reflection": {"model": "policy"}}
    assert problems(fast={"every": 2, **rewritten}) == [0, 16, 32]


def test_rl_costs_the_same_either_way(write_run: Make, slow: Make, evaluated: Make) -> None:
    told = {"groups/kept": 1, "groups/dropped": 3, "rollouts/reused": 0}
    told |= {"rollouts/sampled": 8, "tokens/sampled": 50}
    metrics = [evaluated(0, "seed", 0.1), slow(1, **told), evaluated(1, "seed", 0.2)]
    run = read_run(write_run(metrics=metrics, method="rl", slow={"problems": 4}))
    curve = learning_curve(run)
    assert curve.rewards == [0.1, 0.2]
    assert curve.samples == curve.samples_with_fast == [Samples(), Samples(4, 8, 50)]


def test_contexts_alone_pass_batches_without_slow_steps(write_run: Make, evaluated: Make) -> None:
    fast = {"cycle": 0, "phase": "fast", "time": 0.0, "rollouts/sampled": 9, "tokens/sampled": 90}
    metrics = [evaluated(0, "seed", 0.1), {"step": 0, **fast}, evaluated(2, "best", 0.3)]
    settings = {"method": "fast", "slow": {"problems": 4}, "fast": {"every": 2, "pool": 5}}
    curve = learning_curve(read_run(write_run(metrics=metrics, **settings)))
    assert curve.samples == [Samples(), Samples()]
    assert curve.samples_with_fast == [Samples(), Samples(8 + 5, 9, 90)]


def test_the_last_task_or_another(write_run: Make, slow: Make, evaluated: Make) -> None:
    metrics = [
        evaluated(0, "seed", 0.1, "old"),
        slow(1, **{"reward/mean": 0.5, "reward/mean/old": 0.4}),
        evaluated(2, "seed", 0.2, "old"),
        evaluated(2, "seed", 0.3, "new"),
    ]
    run = read_run(write_run(metrics=metrics, method="rl"))
    assert learning_curve(run).rewards == [0.3]
    assert learning_curve(run, task="old").rewards == [0.1, 0.2]
    assert learning_curve(run, task="old", phase="slow").rewards == [0.4]
    assert learning_curve(run, phase="slow").rewards == [0.5]
    assert learning_curve(run, task="other").rewards == []


def test_what_was_not_counted_is_not_a_number(write_run: Make, slow: Make, evaluated: Make) -> None:
    metrics = [
        slow(1, **{"rollouts/reused": 3, "rollouts/sampled": 5, "tokens/sampled": 50}),
        evaluated(1, "best", 0.3),
    ]
    curve = learning_curve(read_run(write_run(metrics=metrics)))
    assert curve.samples[0].rollouts == 8
    assert math.isnan(curve.samples[0].problems)
    assert math.isnan(curve.samples[0].tokens)  # those of the reused rollouts are unknown
    assert curve.samples_with_fast[0].tokens == 50


def test_a_run_without_evaluations_has_no_points(write_run: Make, slow: Make) -> None:
    curve = learning_curve(read_run(write_run(metrics=[slow(1)])))
    assert curve == Curve([], [], [], [])
    assert curve.peak is None
    assert samples_to_reach(curve, 0.1, "rollouts", include_fast=True) is None


def curve(rewards: list[float], rollouts: list[float], fast: float = 0) -> Curve:
    return Curve(
        steps=list(range(len(rewards))),
        rewards=rewards,
        samples=[Samples(rollouts=n) for n in rollouts],
        samples_with_fast=[Samples(rollouts=n + fast * (n > 0)) for n in rollouts],
    )


RL = curve([0.0, 0.1, 0.3, 0.2], [0, 100, 200, 300])


def test_samples_to_reach_a_reward() -> None:
    assert samples_to_reach(RL, 0.2, "rollouts", include_fast=False) == pytest.approx(150)
    assert samples_to_reach(RL, 0.31, "rollouts", include_fast=False) is None


def test_a_third_of_the_samples() -> None:
    fst = curve([0.0, 0.45], [0, 100], fast=50)
    found = efficiency_ratio(fst, RL, "rollouts", include_fast=False)
    assert (found.level, found.other, found.peak) == (0.3, 200, 0.45)
    assert found.needed == pytest.approx(200 / 3)
    assert found.ratio == pytest.approx(3)
    dearer = efficiency_ratio(fst, RL, "rollouts", include_fast=True)
    assert dearer.ratio == pytest.approx(2)


def test_a_run_that_never_gets_there_says_how_far_it_came() -> None:
    found = efficiency_ratio(curve([0.0, 0.25], [0, 100]), RL, "rollouts", include_fast=False)
    assert found == Efficiency(level=0.3, needed=None, other=200, peak=0.25)
    assert found.ratio is None


def test_no_training_is_no_yardstick() -> None:
    flat = curve([0.0, 0.0], [0, 100])
    found = efficiency_ratio(curve([0.0, 0.5], [0, 100]), flat, "rollouts", include_fast=False)
    assert (found.needed, found.other, found.ratio) == (0, 0, None)


def test_a_run_that_needs_no_samples() -> None:
    found = efficiency_ratio(curve([0.4], [0]), RL, "rollouts", include_fast=False)
    assert found.ratio == math.inf


def test_a_run_without_points_cannot_be_compared() -> None:
    for pair in ((RL, curve([], [])), (curve([], []), RL)):
        with pytest.raises(ValueError, match="found none"):
            efficiency_ratio(*pair, "rollouts", include_fast=False)
