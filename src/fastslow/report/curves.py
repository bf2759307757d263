"""Learning curves: what was measured over slow steps, by arm, with its uncertainty."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import TypeGuard

from fastslow.report.arms import Arm
from fastslow.report.plot import Figure, Panel, Series
from fastslow.run.record import RunRecord

BANDS = (
    "One run: the band is the 95 % bootstrap interval over problems, where it was measured. "
    "Several seeds: the line is their mean and the band their range, at the steps where all of "
    "them were measured; thin lines are the seeds."
)


@dataclass(frozen=True)
class Point:
    """A measured value, and its interval where there is one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


Measure = Callable[[RunRecord], Sequence[Point]]


def over_seeds(arm: Arm, measure: Measure) -> list[Series]:
    """An arm's series: one run with its interval, or the mean and range of several seeds, beside
    which every seed is drawn faintly.

    The mean is taken only where every seed that has the measure has it, so that no line bends
    because a run ended.
    """
    curves = [points for points in map(finite, map(measure, arm.runs)) if points]
    if not curves:
        return []
    if len(curves) == 1:
        return [_line(arm, curves[0])]
    seeds = [
        Series(arm.label, arm.look, [p.x for p in curve], [p.y for p in curve], mark="faint")
        for curve in curves
    ]
    by_place = [{point.x: point.y for point in curve} for curve in curves]
    shared = sorted(set.intersection(*map(set, by_place)))
    if not shared:
        return seeds
    values = [[one[x] for one in by_place] for x in shared]
    mean = Series(
        arm.label,
        arm.look,
        shared,
        [statistics.fmean(some) for some in values],
        [min(some) for some in values],
        [max(some) for some in values],
    )
    return [mean, *seeds]


def accuracy_figures(arms: Sequence[Arm]) -> list[Figure]:
    """Accuracy over slow steps, a panel for each task: as each method is used, and under one
    context for all of them where some arm has another of its own."""
    used = _accuracy_figure(
        arms,
        "accuracy",
        "Accuracy while learning",
        "Accuracy on problems that are never trained on, as each method is meant to be used: under "
        "its best context if it evolves contexts for use, else under the seed context.",
        lambda run: run.trained_context,
    )
    seed = _accuracy_figure(
        arms,
        "accuracy_seed",
        "Accuracy under the seed context",
        "What the weights have learnt by themselves: accuracy without any evolved context.",
        lambda run: "seed",
    )
    population = _accuracy_figure(
        arms,
        "accuracy_population",
        "Accuracy under the whole population",
        "Accuracy under the contexts in force, each problem's completions spread over them.",
        lambda run: "population",
    )
    evolving = any(run.trained_context != "seed" for arm in arms for run in arm.runs)
    own = _accuracy_figure(
        arms,
        "accuracy_own",
        "Accuracy under each task's own context",
        "Accuracy under the best context that the last fast phase on the task left, which is kept "
        "for it when the run moves on to other tasks.",
        lambda run: "own",
    )
    figures = [used, seed, population, own] if evolving else [used, population, own]
    return [figure for figure in figures if figure.panels]


def reward_figure(arms: Sequence[Arm]) -> Figure:
    """Mean reward of every batch, and in runs of several tasks of each task's part of it."""
    measures = {"reward/mean": "All tasks" if _has_parts(arms) else "Training batches"}
    for row in (row for arm in arms for run in arm.runs for row in run.rows("slow")):
        parts = [key for key in row if key.startswith("reward/mean/")]
        measures.update({key: key.removeprefix("reward/mean/") for key in parts})
    panels = [
        Panel(
            title,
            "slow step",
            "mean reward",
            [series for arm in arms for series in over_seeds(arm, slow_measure(key))],
            share=True,
            boundaries=stage_boundaries(arms),
            counted=True,
        )
        for key, title in measures.items()
    ]
    return Figure(
        "reward",
        "Reward while training",
        "Mean reward of each slow step's rollouts, under the contexts that were in force. Several "
        "seeds: mean and range; thin lines are the seeds.",
        [panel for panel in panels if panel.series],
    )


def training_figure(arms: Sequence[Arm]) -> Figure:
    """Whether the optimiser had something to do, and what it did to the policy."""
    measures = {
        "grad_norm": ("Gradient norm", "norm before clipping"),
        "entropy": ("Entropy of the policy", "nats per token"),
        "kl/base": ("Drift while training", "KL to the base (k3), nats/token"),
    }
    panels = [
        Panel(
            title,
            "slow step",
            unit,
            [series for arm in arms for series in over_seeds(arm, slow_measure(key))],
            boundaries=stage_boundaries(arms),
            counted=True,
        )
        for key, (title, unit) in measures.items()
    ]
    return Figure(
        "training",
        "Gradient, entropy and drift",
        "Measured on each slow step's own rollouts; steps whose groups all lack variance have no "
        "gradient and no point. Several seeds: mean and range; thin lines are the seeds.",
        [panel for panel in panels if panel.series],
    )


def tasks_of(arms: Sequence[Arm]) -> list[str]:
    """Every task that was evaluated, in order of its first evaluation."""
    rows = (row for arm in arms for run in arm.runs for row in run.rows("eval"))
    return list(dict.fromkeys(row["task"] for row in rows))


def stage_boundaries(arms: Sequence[Arm]) -> list[int]:
    """Slow steps after which another stage began, if all runs have the same."""
    found = {
        tuple(accumulate(stage.steps for stage in run.config.all_stages[:-1]))
        for arm in arms
        for run in arm.runs
    }
    return list(found.pop()) if len(found) == 1 else []


def slow_measure(key: str) -> Measure:
    """A measure of slow rows over slow steps."""
    return lambda run: [
        Point(step, value) for step, value in zip(*run.curve("slow", key), strict=True)
    ]


def accuracy_points(run: RunRecord, task: str, context: str) -> list[Point]:
    """Accuracies on ``task`` under ``context`` over slow steps."""
    rows = run.evaluations(context, task)
    if all(row["context"] != context for row in rows):
        return []  # there is more to a curve than what all of them begin with
    return [
        Point(row["step"], row["accuracy"], row.get("accuracy/low"), row.get("accuracy/high"))
        for row in rows
    ]


def _accuracy_figure(
    arms: Sequence[Arm], name: str, title: str, caption: str, context: Callable[[RunRecord], str]
) -> Figure:
    panels = [
        Panel(
            task,
            "slow step",
            "accuracy",
            [
                series
                for arm in arms
                for series in over_seeds(arm, partial(_accuracy, task=task, context=context))
            ],
            share=True,
            boundaries=stage_boundaries(arms),
            counted=True,
        )
        for task in tasks_of(arms)
    ]
    return Figure(name, title, f"{caption} {BANDS}", [panel for panel in panels if panel.series])


def _accuracy(run: RunRecord, task: str, context: Callable[[RunRecord], str]) -> list[Point]:
    return accuracy_points(run, task, context(run))


def _line(arm: Arm, points: Sequence[Point]) -> Series:
    """A band only where the whole curve has one: old evaluations have no interval."""
    low = [point.low for point in points if _is_number(point.low)]
    high = [point.high for point in points if _is_number(point.high)]
    whole = len(low) == len(high) == len(points)
    return Series(
        arm.label,
        arm.look,
        [point.x for point in points],
        [point.y for point in points],
        low if whole else (),
        high if whole else (),
    )


def _is_number(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def finite(points: Sequence[Point]) -> list[Point]:
    """The points that can be drawn."""
    return [point for point in points if math.isfinite(point.x) and math.isfinite(point.y)]


def _has_parts(arms: Sequence[Arm]) -> bool:
    return any(len(run.config.tasks) > 1 for arm in arms for run in arm.runs)
