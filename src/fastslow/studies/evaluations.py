"""Evaluations beside those that runs make themselves: made once, and kept with the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fastslow import training
from fastslow.errors import InputError
from fastslow.run import disk
from fastslow.run.console import Console
from fastslow.run.jsonl import read_lines
from fastslow.run.observer import Observer
from fastslow.run.observers import Fanout
from fastslow.run.record import Row
from fastslow.run.serial import dumps
from fastslow.run.stored import EvaluationRow
from fastslow.studies.plan import Evaluation


class Kept:
    """``evaluations.jsonl``: the rows of every evaluation, each with its evaluation's digest.

    The file is written anew as a whole, so that it never holds half an evaluation.
    """

    def __init__(self, path: Path) -> None:
        """Raises: InputError if the file cannot be read."""
        self.path = path
        try:
            self._rows = list(read_lines(path, model=EvaluationRow)) if path.exists() else []
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error}: remove it") from None

    def get(self, evaluation: Evaluation) -> list[Row]:
        """The rows of an evaluation; none if it was not made yet."""
        return [row for row in self._rows if row["evaluation"] == evaluation.digest]

    def add(self, evaluation: Evaluation, rows: Sequence[Row]) -> None:
        """Raises: OSError."""
        self._rows += [{"evaluation": evaluation.digest, **row} for row in rows]
        disk.write_text(self.path, "".join(f"{dumps(row)}\n" for row in self._rows))


def evaluate(evaluation: Evaluation, console: bool) -> list[Row]:
    """Make an evaluation of a finished run.

    Returns:
        Its rows, as in ``metrics.jsonl`` but for the time, with the run's name, ``role``, ``seed``
        and ``weights``.

    Raises:
        InputError: the checkpoint of the run's last step is damaged, or a task is wrong.
        InterruptedRunError: somebody asked it to stop.
    """
    spec, collected = evaluation.run, _Rows()
    with ExitStack() as stack:
        observers: list[Observer] = [collected]
        if console:
            observers.append(stack.enter_context(Console(spec.resolved)))
        training.evaluate(
            spec.path,
            evaluation.settings,
            Fanout(*observers),
            tasks=evaluation.tasks,
            base=evaluation.weights == "base",
            step=spec.config.total_steps,
            trust=True,  # its configuration is the study's own
        )
    where = {
        "role": spec.role,
        "seed": spec.config.seed,
        "run": spec.path.name,
        "weights": evaluation.weights,
    }
    return [{**where, **row} for row in collected.rows]


class _Rows(Observer):
    """Keeps rows of metrics and nothing else."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def on_metrics(self, row: Mapping[str, Any]) -> None:
        self.rows.append({key: value for key, value in row.items() if value is not None})
