"""Sample efficiency of a comparison: who reaches whose peak, and after how many samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastslow.measure.accuracy import running_max
from fastslow.measure.efficiency import (
    Curve,
    Unit,
    efficiency_ratio,
    learning_curve,
)
from fastslow.report.arms import Arm, beside_yardstick
from fastslow.report.curves import tasks_of
from fastslow.report.plot import Figure, Panel, Series
from fastslow.report.table import Cell, Table


def efficiency_table(arms: Sequence[Arm]) -> Table:
    """The samples that every run needed to be as good as the yardstick at its best."""
    columns = ["task", "run", "beside", "peak of the other", "own peak"]
    columns += ["counted", "needed", "needed by the other", "ratio"]
    rows: list[list[Cell]] = [
        [task, run.name, other.name, theirs.peak, ours.peak, name, *_counts(ours, theirs, *how)]
        for task in tasks_of(arms)
        for run, other in beside_yardstick(arms)
        for ours, theirs in [(learning_curve(run, task=task), learning_curve(other, task=task))]
        if ours.rewards and theirs.rewards
        for how, name in _COUNTED.items()
    ]
    return Table(
        "efficiency",
        "Samples that a run needed to reach the best accuracy of the run it stands beside, and how "
        "many times fewer that is (ratio; 3 means a third of the samples). Counted in three units, "
        "with and without the fast phases; evaluations are never counted. An empty cell: it was "
        "not reached, or not measured, or the other run was never better than before training.",
        columns,
        rows,
    ).measured


def efficiency_figure(arms: Sequence[Arm]) -> Figure:
    """The running maximum of accuracy over samples, as the paper's figure on data efficiency."""
    panels = [
        Panel(
            task,
            "rollouts sampled, fast phases included",
            "best accuracy so far",
            [
                Series(arm.label, arm.look, *points)
                for arm in arms
                for run in arm.runs
                if len((points := _best_so_far(learning_curve(run, task=task)))[0]) > 1
            ],
            share=True,
        )
        for task in tasks_of(arms)
    ]
    return Figure(
        "samples",
        "Accuracy by samples",
        "Running maximum of accuracy over the rollouts sampled so far, those of fast phases among "
        "them and those of evaluations not. One line a run.",
        [panel for panel in panels if panel.series],
    )


_COUNTED: dict[tuple[Unit, bool], str] = {
    ("problems", True): "problems",
    ("problems", False): "problems, fast phases left out",
    ("rollouts", True): "rollouts",
    ("rollouts", False): "rollouts, fast phases left out",
    ("tokens", True): "tokens",
    ("tokens", False): "tokens, fast phases left out",
}


def _counts(ours: Curve, theirs: Curve, unit: Unit, fast: bool) -> list[Cell]:
    found = efficiency_ratio(ours, theirs, unit, fast)
    if found.other == 0:
        return [None, None, None]  # no training is no yardstick
    return [_measured(value) for value in (found.needed, found.other, found.ratio)]


def _measured(value: float | None) -> float | None:
    """None for NaN, which stands for samples that were not counted."""
    return None if value is None or math.isnan(value) else value


def _best_so_far(curve: Curve) -> tuple[list[float], list[float]]:
    counted = [
        (count, best)
        for count, best in zip(
            curve.counts("rollouts", True), running_max(curve.rewards), strict=True
        )
        if math.isfinite(count)
    ]
    return [count for count, _ in counted], [best for _, best in counted]
