"""Quadrants: base or trained weights under the seed or an evolved context (paper, quadrants).

A study leaves them in a run's folder as ``quadrants.json``: a list of evaluation rows, as in
metrics.jsonl, with ``weights`` ("base" or "trained") beside ``context``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastslow.errors import InputError
from fastslow.regular import read_bytes
from fastslow.report.arms import Arm
from fastslow.report.plot import Figure, Panel, Series
from fastslow.report.table import Cell, Table
from fastslow.run.record import Row, RunRecord
from fastslow.run.stored import QUADRANTS, check
from fastslow.run.strict_json import parse

FILE = "quadrants.json"

_NAMES = {
    ("base", False): "base",
    ("base", True): "fast only",
    ("trained", False): "slow only",
    ("trained", True): "both",
}
"""By weights, and by whether the context evolved."""

_MAX_BYTES = 2**26


@dataclass(frozen=True)
class Quadrants:
    """A run's accuracies on one task, by name of the quadrant.

    Attributes:
        cells: rows of ``quadrants.json`` by name, in the order of the names; some may lack.
    """

    arm: Arm
    run: RunRecord
    task: str
    cells: dict[str, Row]


def read_quadrants(arms: Sequence[Arm]) -> list[Quadrants]:
    """Quadrants of every run that has them, a task at a time.

    Raises:
        InputError: a file does not hold such rows.
    """
    found: list[Quadrants] = []
    for arm in arms:
        for run in arm.runs:
            by_task: dict[str, dict[str, Row]] = {}
            for row in _rows(run):
                name = _NAMES[row["weights"], row["context"] != "seed"]
                by_task.setdefault(row["task"], {})[name] = row
            found += [
                Quadrants(arm, run, task, {n: cells[n] for n in _NAMES.values() if n in cells})
                for task, cells in by_task.items()
            ]
    return found


def quadrants_table(found: Sequence[Quadrants]) -> Table:
    """Four accuracies a run, with their intervals where they were measured."""
    columns = ["run", "task"]
    for name in _NAMES.values():
        columns += [name, f"{name}, low", f"{name}, high"]
    rows: list[list[Cell]] = []
    for one in found:
        cells: list[Cell] = [one.run.name, one.task]
        for name in _NAMES.values():
            row = one.cells.get(name, {})
            cells += [row.get("accuracy"), row.get("accuracy/low"), row.get("accuracy/high")]
        rows.append(cells)
    return Table(
        "quadrants",
        "Accuracy with base or trained weights under the seed context or the evolved ones (base: "
        "neither; fast only: base weights; slow only: seed context; both).",
        columns,
        rows,
    )


def quadrants_figure(found: Sequence[Quadrants]) -> Figure:
    """The same as points with intervals, a panel for each task."""
    panels = [
        _panel(task, [one for one in found if one.task == task])
        for task in dict.fromkeys(one.task for one in found)
    ]
    return Figure(
        "quadrant_points",
        "Weights and contexts, each with and without the other",
        "Accuracy with base or trained weights under the seed context or the evolved ones, one "
        "point a run; bars are 95 % bootstrap intervals over problems, where they were measured.",
        panels,
    )


def _panel(task: str, found: Sequence[Quadrants]) -> Panel:
    places = {name: float(place) for place, name in enumerate(_NAMES.values())}
    series = []
    for number, one in enumerate(found):
        offset = min(0.08, 0.8 / len(found)) * (number - (len(found) - 1) / 2)
        rows = list(one.cells.values())
        whole = all("accuracy/low" in row and "accuracy/high" in row for row in rows)
        series.append(
            Series(
                one.arm.label,
                one.arm.look,
                [places[name] + offset for name in one.cells],
                [row["accuracy"] for row in rows],
                [row["accuracy/low"] for row in rows] if whole else (),
                [row["accuracy/high"] for row in rows] if whole else (),
                mark="measured",
            )
        )
    ticks = {place: name for name, place in places.items()}
    return Panel(task, "weights and context", "accuracy", series, share=True, ticks=ticks)


def _rows(run: RunRecord) -> list[Row]:
    path = run.path / FILE
    try:
        rows: list[Row] = parse(read_bytes(path, _MAX_BYTES))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    try:
        check(QUADRANTS, rows)
    except ValueError as error:
        raise InputError(
            f"{path}: is not a list of evaluation rows, each with task, context, accuracy and "
            f'weights = "base" or "trained": {error}. Remove the file, or measure them anew'
        ) from None
    return rows
