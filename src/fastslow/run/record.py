"""What a run came to, read from its folder."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastslow.config import RunConfig
from fastslow.errors import InputError
from fastslow.places import given
from fastslow.run import inside
from fastslow.run.checkpoint import is_checkpoint
from fastslow.run.jsonl import read_lines
from fastslow.run.serial import context_from_json
from fastslow.run.stored import ContextRow, MetricsRow
from fastslow.types import Context

Row = dict[str, Any]


@dataclass(frozen=True)
class RunRecord:
    """A run's configuration and everything that it measured.

    Attributes:
        path: the run's folder.
        config: as resolved when it started.
        metrics: rows of metrics.jsonl, in order.
        contexts: rows of contexts.jsonl, in order.
    """

    path: Path
    config: RunConfig
    metrics: Sequence[Row]
    contexts: Sequence[Row]

    @property
    def name(self) -> str:
        return self.config.run_name

    def rows(self, phase: str) -> list[Row]:
        """Rows of one phase: "fast", "slow" or "eval"."""
        return [row for row in self.metrics if row["phase"] == phase]

    def curve(self, phase: str, measure: str) -> tuple[list[int], list[float]]:
        """Steps and values of a measure, where it was measured."""
        rows = [row for row in self.rows(phase) if measure in row]
        return [row["step"] for row in rows], [row[measure] for row in rows]

    def evaluations(self, context: str | None = None, task: str | None = None) -> list[Row]:
        """The run's own evaluations on one task under one context, in the order of training.

        Before the first fast phase there is the seed context alone: that evaluation begins the list
        of every context.

        Args:
            context: as in ``eval.contexts``; None: ``trained_context``.
            task: None: the one that was evaluated last.
        """
        context, rows = context or self.trained_context, self.rows("eval")
        task = task or next((row["task"] for row in reversed(rows)), None)
        rows = [row for row in rows if row["task"] == task]
        return [row for row in rows if row["context"] == (context if row["step"] else "seed")]

    @property
    def trained_context(self) -> str:
        return trained_context(self.config)

    @property
    def base_accuracy(self) -> float | None:
        """Accuracy before training, under the seed context."""
        return next((row["accuracy"] for row in self.evaluations("seed")), None)

    @property
    def final_accuracy(self) -> float | None:
        """Accuracy at the latest evaluation, under ``trained_context``."""
        return next((row["accuracy"] for row in reversed(self.evaluations())), None)

    @property
    def final_reward(self) -> float | None:
        """Mean reward of the last T slow steps, T being the length of a cycle."""
        rewards = self.curve("slow", "reward/mean")[1]
        return statistics.fmean(rewards[-self.config.fast.every :]) if rewards else None

    @property
    def slow_steps(self) -> int:
        return len(self.rows("slow"))

    @property
    def tokens_sampled(self) -> int:
        """Completion tokens sampled for training, in fast and slow phases."""
        return sum(row.get("tokens/sampled", 0) for row in self.metrics)

    @property
    def seconds(self) -> float:
        """Time spent in fast phases, rollouts and updates; evaluations and set-up left out."""
        parts = ("seconds/fast", "seconds/rollout", "seconds/update")
        return float(sum(row.get(part, 0.0) for row in self.metrics for part in parts))

    @property
    def best_context(self) -> Context | None:
        """The context ranked first by the last fast phase, or the seed context."""
        kept = [row for row in self.contexts if row.get("rank") == 1]
        return context_from_json(kept[-1]) if kept else None


def trained_context(config: RunConfig) -> str:
    """The context that the method is meant to be used with: "best" if it evolves contexts to be
    read, and not, as a policy that is distilled, to be done without."""
    return "best" if config.approach in ("fst", "fast") else "seed"


def read_runs(paths: Iterable[Path]) -> tuple[list[RunRecord], list[str]]:
    """Every run among some folders, and for each of the others one text that says why not.

    Raises:
        InputError: there is no run among them.
    """
    runs: list[RunRecord] = []
    left_out: list[str] = []
    for path in paths:
        try:
            runs.append(read_run(path))
        except InputError as error:
            left_out.append(str(error))
    if not runs:
        raise InputError("\n".join(left_out))
    return runs, left_out


def read_run(path: Path) -> RunRecord:
    """Read a run's folder, whether it is finished or not.

    Raises:
        InputError: it is no run, holds no metrics yet, or what it holds was written by no run.
    """
    path = given(path)
    config = inside.load_config(path)
    if is_checkpoint(path):
        raise InputError(f"{path}: is a checkpoint, not a run")
    try:
        metrics = list(read_lines(path / "metrics.jsonl", model=MetricsRow))
        contexts = list(read_lines(path / "contexts.jsonl", model=ContextRow))
    except FileNotFoundError:  # killed just after it began
        metrics = []
    except OSError as error:
        raise InputError(f"{error.filename or path}: cannot be read: {error}") from None
    if not metrics:
        raise InputError(f"{path}: nothing was measured yet")
    return RunRecord(path, config, metrics, contexts)
