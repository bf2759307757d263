"""Reward against the distance to the base policy: what was paid for what was learnt."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from fastslow.measure.matched import match
from fastslow.report.arms import Arm, beside_yardstick
from fastslow.report.curves import Measure, Point, finite, tasks_of
from fastslow.report.plot import Figure, Mark, Panel, Series
from fastslow.report.table import Cell, Table
from fastslow.run.record import Row, RunRecord


def drift_figure(arms: Sequence[Arm]) -> Figure:
    """Reward against the distance to the base policy: what was paid for what was learnt."""
    trained = [arm for arm in arms if arm.runs[0].config.uses_slow]
    rows = [row for arm in trained for row in _own_rows(arm)]
    if rows and all("drift/exact" in row for row in rows):
        panels = [
            _drift_panel(
                trained,
                task,
                ("KL(trained || base), nats per token", "accuracy"),
                "line",
                partial(_exact_drift, task=task),
            )
            for task in tasks_of(trained)
        ]
        caption = (
            "Accuracy on evaluated problems against the exact KL to the base policy on the same "
            "completions (drift/exact), over the full vocabulary at each position. One line a run, "
            "its points in order of slow steps."
        )
    else:
        labels = ("KL to the base policy (k3), nats per token", "mean reward")
        panels = [_drift_panel(trained, "Training batches", labels, "measured", _logged_drift)]
        caption = (
            "Mean reward of a slow step's batch against the k3 estimate of the KL to the base "
            "policy on its rollouts (kl/base), because not every evaluation measured the exact "
            "drift (eval.drift). One point a slow step."
        )
    panels = [panel for panel in panels if panel.series]
    return Figure("drift", "Reward against drift", caption, panels)


def matched_drift_table(arms: Sequence[Arm]) -> Table:
    """The drift of every run beside that of the yardstick, at rewards that both reach."""
    rows: list[list[Cell]] = []
    for task in tasks_of(arms):
        for run, other in beside_yardstick(arms):
            ours, theirs = _rewards_and_drifts(run, task), _rewards_and_drifts(other, task)
            if ours and theirs and (matched := match(ours, theirs)):
                highest: list[Cell] = [matched.levels[-1], matched.values[-1], matched.others[-1]]
                ratios: list[Cell] = [matched.at_highest, matched.lowest]
                rows.append([task, run.name, other.name, *highest, *ratios])
    columns = ["task", "run", "beside", "highest accuracy of both", "drift there"]
    columns += ["drift of the other", "ratio", "lowest ratio"]
    return Table(
        "matched_drift",
        "Exact drift in nats per token when a run first came to the highest accuracy that it and "
        "the run beside it both reach (between evaluations read off a straight line), the ratio of "
        "the two drifts (0.3 means 70 % less), and the lowest such ratio at any accuracy that both "
        "reach.",
        columns,
        rows,
    )


def _drift_panel(
    arms: Sequence[Arm], title: str, labels: tuple[str, str], mark: Mark, measure: Measure
) -> Panel:
    series = [
        Series(arm.label, arm.look, [p.x for p in points], [p.y for p in points], mark=mark)
        for arm in arms
        for run in arm.runs
        if (points := finite(measure(run)))
    ]
    return Panel(title, *labels, series, share=True)


def _own_rows(arm: Arm) -> list[Row]:
    """Evaluations as the method is meant to be used, after training began."""
    return [
        row
        for run in arm.runs
        for row in run.rows("eval")
        if row["context"] == run.trained_context and row["step"] > 0
    ]


def _rewards_and_drifts(run: RunRecord, task: str) -> list[tuple[float, float]]:
    return [(point.y, point.x) for point in finite(_exact_drift(run, task))]


def _exact_drift(run: RunRecord, task: str) -> list[Point]:
    rows = run.evaluations(task=task)
    return [Point(row["drift/exact"], row["accuracy"]) for row in rows if "drift/exact" in row]


def _logged_drift(run: RunRecord) -> list[Point]:
    rows = [row for row in run.rows("slow") if "kl/base" in row and "reward/mean" in row]
    return [Point(row["kl/base"], row["reward/mean"]) for row in rows]
