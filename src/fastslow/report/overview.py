"""What the runs of a comparison are, what they came to, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastslow.report.table import Cell, Table
from fastslow.run.record import Row, RunRecord


def overview_table(runs: Sequence[RunRecord]) -> Table:
    """One row a run."""
    columns = ["run", "method", "model", "tasks", "seed", "steps done", "steps"]
    columns += ["accuracy before", "accuracy", "accuracy, low", "accuracy, high"]
    columns += ["final reward", "drift", "rollouts", "tokens", "seconds"]
    return Table(
        "runs",
        "Accuracies are of the last stage's task: before training under the seed context, then the "
        "latest one under the context that the method is meant to be used with, with its 95 % "
        "bootstrap interval over problems. Final reward: mean of the last T slow steps. Drift: "
        "exact KL to the base policy at that evaluation, nats per token. Rollouts and tokens are "
        "those sampled for training, seconds those of fast phases, rollouts and updates.",
        columns,
        [_row(run) for run in runs],
    )


def metrics_table(runs: Sequence[RunRecord]) -> Table:
    """Every row of every run's metrics.jsonl, one column a measure."""
    rows = [(run.name, row) for run in runs for row in run.metrics]
    keys = list(dict.fromkeys(key for _, row in rows for key in row))
    return Table(
        "metrics",
        "Every row of every run's metrics.jsonl.",
        ["run", *keys],
        [[name, *(row.get(key) for key in keys)] for name, row in rows],
    )


def steps_done(run: RunRecord) -> int:
    """Slow steps up to the latest row."""
    return int(max(row["step"] for row in run.metrics))


def rollouts_sampled(run: RunRecord) -> int | None:
    """Rollouts sampled for training, in fast and slow phases; None where they were not counted."""
    counts = [row["rollouts/sampled"] for row in run.metrics if "rollouts/sampled" in row]
    return sum(counts) if counts else None


def latest_evaluation(run: RunRecord) -> Row:
    """The row that ``final_accuracy`` stands in; empty where there is none."""
    return next(reversed(run.evaluations()), {})


def _row(run: RunRecord) -> list[Cell]:
    config, latest = run.config, latest_evaluation(run)
    identity: list[Cell] = [run.name, config.approach, config.model, ", ".join(config.tasks)]
    accuracy: list[Any] = [latest.get(f"accuracy{end}") for end in ("", "/low", "/high")]
    return [
        *identity,
        config.seed,
        steps_done(run),
        config.total_steps,
        run.base_accuracy,
        *accuracy,
        run.final_reward,
        latest.get("drift/exact"),
        rollouts_sampled(run),
        run.tokens_sampled,
        round(run.seconds, 1),
    ]
