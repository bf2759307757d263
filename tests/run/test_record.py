from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastslow.errors import InputError
from fastslow.run.record import read_run
from fastslow.types import Context

Make = Callable[..., Any]


def test_the_numbers_of_a_run(write_run: Make, slow: Make, evaluated: Make, context: Make) -> None:
    fast = {"step": 0, "cycle": 0, "phase": "fast", "tokens/sampled": 50, "seconds/fast": 2.5}
    metrics = [
        evaluated(0, "seed", 0.125),
        fast,
        slow(1, **{"reward/mean": 0.1, "tokens/sampled": 10, "seconds/rollout": 1.0}),
        slow(2, **{"reward/mean": 0.2, "tokens/sampled": 20, "seconds/update": 0.5}),
        evaluated(2, "seed", 0.25),
        evaluated(2, "best", 0.5),
        slow(3, **{"reward/mean": 0.4, "kl/base": 0.01}),
        slow(4, **{"reward/mean": 0.8}),
        evaluated(4, "seed", 0.375),
        evaluated(4, "best", 0.75),
        evaluated(4, "population", 0.625),
    ]
    contexts = [
        context("seed", rank=1, cycle=None),
        context("second", rank=2),
        context("first", rank=1),
        context("left"),
    ]
    run = read_run(write_run("mine", metrics, contexts))
    assert run.name == "mine"
    assert run.base_accuracy == 0.125
    assert run.final_accuracy == 0.75
    assert run.final_reward == pytest.approx(0.6)  # of the last T = 2 steps
    assert run.slow_steps == 4
    assert run.tokens_sampled == 80
    assert run.seconds == 4.0
    assert run.best_context == Context("first")
    assert run.curve("slow", "reward/mean") == ([1, 2, 3, 4], [0.1, 0.2, 0.4, 0.8])
    assert run.curve("slow", "kl/base") == ([3], [0.01])
    # Before the first fast phase there is the seed context alone.
    assert [row["accuracy"] for row in run.evaluations("population")] == [0.125, 0.625]
    assert [row["accuracy"] for row in run.evaluations("seed")] == [0.125, 0.25, 0.375]


def test_rl_is_judged_by_its_one_context(write_run: Make, slow: Make, evaluated: Make) -> None:
    metrics = [evaluated(0, "seed", 0.1), slow(1), evaluated(1, "seed", 0.3)]
    run = read_run(write_run(metrics=metrics, method="rl"))
    assert (run.base_accuracy, run.final_accuracy) == (0.1, 0.3)


def test_what_was_not_measured_is_none(write_run: Make, slow: Make) -> None:
    run = read_run(write_run(metrics=[slow(1)]))
    assert run.base_accuracy is None
    assert run.final_accuracy is None
    assert run.final_reward is None
    assert run.best_context is None
    assert (run.tokens_sampled, run.seconds) == (0, 0)


def test_a_continual_run_is_judged_on_its_last_task(
    write_run: Make, slow: Make, evaluated: Make
) -> None:
    metrics = [
        evaluated(0, "seed", 0.1, "old"),
        slow(1),
        evaluated(2, "seed", 0.2, "old"),
        evaluated(2, "seed", 0.3, "new"),
        evaluated(4, "seed", 0.9, "old"),
        evaluated(4, "seed", 0.6, "new"),
    ]
    run = read_run(write_run(metrics=metrics, method="rl"))
    assert [(row["step"], row["accuracy"]) for row in run.evaluations()] == [(2, 0.3), (4, 0.6)]
    assert [row["accuracy"] for row in run.evaluations(task="old")] == [0.1, 0.2, 0.9]


def test_a_run_under_way_is_read_up_to_its_last_whole_line(write_run: Make, slow: Make) -> None:
    folder: Path = write_run(metrics=[slow(1), slow(2)])
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "pha')
    assert read_run(folder).slow_steps == 2


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no run"):
        read_run(tmp_path)


def test_a_run_without_rows_is_refused(write_run: Make) -> None:
    with pytest.raises(InputError, match="nothing was measured yet"):
        read_run(write_run())
