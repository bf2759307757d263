"""A study's folder: its plan, its results, its claims and its figure.

::

    plan.json             every run with its role, seed and folder, and the command
    evaluations.jsonl     evaluations beside the runs, where the study makes any
    results.json          the numbers, and which runs are missing
    claims.json           each claim with its estimate, its interval and whether it holds
    figure.png, .svg      the same to look at
    lock                  held by the process that runs the study
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from fastslow.report.plot import Figure, draw
from fastslow.run import disk
from fastslow.run.record import Row
from fastslow.run.serial import dumps
from fastslow.studies import STUDIES
from fastslow.studies.claims import Claim, NoReading
from fastslow.studies.plan import RunSpec
from fastslow.studies.prepare import Prepared
from fastslow.studies.study import Conclusion
from fastslow.text import one_line

FIGURES = (".png", ".svg")

_ROWS_SHOWN = 40
"""Rows of a table on the terminal, at most; all of them are in ``results.json``."""

_LONGEST_CELL = 24
"""Characters of a cell, at most: a longer text is a note below the table."""

_GAP = " | "
"""Stands between two columns, for their width."""

_NOT_SHOWN = frozenset({"run", "evaluation", "phase", "cycle", "split", "final/low", "final/high"})
"""Columns that ``results.json`` has and the terminal does not."""


def write_plan(prepared: Prepared) -> None:
    """Write ``plan.json``. Raises: OSError."""
    runs = [
        {
            "role": spec.role,
            "seed": spec.config.seed,
            "method": spec.config.approach,
            "folder": str(spec.path),
            "digest": spec.digest,
            "after": str(spec.after.path) if spec.after else None,
        }
        for spec in prepared.plan.runs
    ]
    evaluations = [
        {
            "run": evaluation.run.path.name,
            "weights": evaluation.weights,
            "tasks": sorted(evaluation.tasks or evaluation.run.config.tasks),
            "digest": evaluation.digest,
        }
        for evaluation in prepared.plan.evaluations
    ]
    _write_json(
        prepared.folder / "plan.json",
        {
            "study": prepared.name,
            "config": prepared.setup.source,
            "command": prepared.command,
            "settings": prepared.setup.settings.model_dump(mode="json"),
            "runs": runs,
            "evaluations": evaluations,
        },
    )


def write_conclusion(
    prepared: Prepared, conclusion: Conclusion, missing: Mapping[str, str]
) -> list[Path]:
    """Write results, claims and figure, and what belongs beside the runs.

    Args:
        missing: why runs and evaluations are missing, by what they are.

    Returns:
        What was written into the study's folder.

    Raises:
        OSError: it cannot be written.
    """
    folder = prepared.folder
    results = {
        "study": prepared.name,
        "command": prepared.command,
        "missing": [{"what": what, "why": why} for what, why in missing.items()],
        "rows": list(conclusion.rows),
    }
    claims = [claim.to_json(prepared.command) for claim in conclusion.claims]
    _write_json(folder / "results.json", results)
    _write_json(folder / "claims.json", claims)
    for path, content in conclusion.files.items():
        _write_json(path, content)
    figure = Figure("figure", f"{prepared.name}: {STUDIES[prepared.name]}", "", conclusion.panels)
    for suffix in FIGURES:
        path = folder / f"figure{suffix}"
        path.unlink(missing_ok=True)  # a hard link would lead the writing to another file
        draw(figure, path)
    return [folder / name for name in ("results.json", "claims.json", "figure.png", "figure.svg")]


def rows_table(rows: Sequence[Row], width: int) -> Table:
    """The numbers; what a row does not have is a dash. Sentences stand below the table.

    Args:
        rows: of ``results.json``.
        width: characters of the terminal; columns that do not fit are left out.
    """
    table, notes = Table(show_edge=False, pad_edge=False), dict[str, int]()
    columns = [
        key for key in dict.fromkeys(key for row in rows for key in row) if key not in _NOT_SHOWN
    ]
    shown: list[list[str]] = []
    for column in columns:
        cells = [_cell(row.get(column)) for row in rows[:_ROWS_SHOWN]]
        header = column.split("/")
        short = [cell for cell in cells if len(cell) <= _LONGEST_CELL]
        needed = max(map(len, (*header, *short))) + len(_GAP)
        if needed > width:
            continue
        width -= needed
        numeric = all(isinstance(row.get(column, 0), (int, float)) for row in rows)
        title = Text("/\n".join(header))
        table.add_column(title, justify="right" if numeric else "left", no_wrap=True)
        shown.append([_noted(cell, notes) for cell in cells])
    for texts in zip(*shown, strict=True):
        table.add_row(*map(Text, texts))
    left_out = (len(rows) - len(rows[:_ROWS_SHOWN]), "rows"), (len(columns) - len(shown), "columns")
    counts = [f"{count} more {what}" for count, what in left_out if count]
    more = [f"{' and '.join(counts)} in results.json"] if counts else []
    return _with_caption(table, notes, *more)


def _noted(cell: str, notes: dict[str, int]) -> str:
    """The cell itself if it is short, else the number of its note."""
    return cell if len(cell) <= _LONGEST_CELL else _note(cell, notes)


def _note(text: str, notes: dict[str, int]) -> str:
    return f"({notes.setdefault(text, len(notes) + 1)})"


def _with_caption(table: Table, notes: Mapping[str, int], *more: str) -> Table:
    """The table with its notes below it, by their numbers."""
    lines = [*(f"({number}) {note}" for note, number in notes.items()), *more]
    table.caption, table.caption_justify = Text("\n".join(lines)) if lines else None, "left"
    return table


def claims_table(claims: Sequence[Claim]) -> Table:
    """Each claim with its estimate and 95 % interval over seeds, and whether it holds. Why a seed
    has nothing to say stands below the table."""
    table, notes = Table(show_edge=False, pad_edge=False), dict[str, int]()
    table.add_column("claim", overflow="fold")
    for column in ("estimate", "95 % interval", "rule"):
        table.add_column(column, justify="right")
    table.add_column("holds")
    for claim in claims:
        low_high = claim.interval
        interval = f"{_cell(low_high[0])} to {_cell(low_high[1])}" if low_high else "-"
        rule = f"{claim.relation} {claim.threshold:g}"
        reasons = [
            _note(one_line(f"seed {seed}: {reading.reason}"), notes)
            for seed, reading in claim.readings.items()
            if isinstance(reading, NoReading)
        ]
        holds = " ".join([claim.holds, *reasons])
        table.add_row(Text(one_line(claim.text)), _cell(claim.estimate), interval, rule, holds)
    return _with_caption(table, notes)


def runs_table(specs: Sequence[tuple[RunSpec, str]]) -> Table:
    """The runs of a plan, each with a remark; what one of them begins from by its role."""
    table = Table(show_edge=False, pad_edge=False)
    for column in ("role", "seed", "steps", "run", "begins from", "state"):
        table.add_column(column, overflow="fold")
    for spec, remark in specs:
        origin = spec.config.model if spec.after is None else spec.after.role
        steps, seed = str(spec.config.total_steps), str(spec.config.seed)
        cells = (spec.role, seed, steps, spec.path.name, origin, remark)
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        if 100 <= abs(value) < 1e9:
            return f"{value:,.0f}"
        return f"{value:.3f}" if 0.001 <= abs(value) < 100 or value == 0 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else one_line(str(value))


def _write_json(path: Path, content: Any) -> None:
    text = json.dumps(json.loads(dumps(content)), indent=2)  # what JSON cannot say is spelled out
    disk.write_text(path, text + "\n")
