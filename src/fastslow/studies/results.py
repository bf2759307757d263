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
from fastslow.run.text import one_line
from fastslow.studies import STUDIES
from fastslow.studies.claims import Claim
from fastslow.studies.plan import RunSpec
from fastslow.studies.prepare import Prepared
from fastslow.studies.study import Conclusion

FIGURES = (".png", ".svg")

_ROWS_SHOWN = 40
"""Rows of a table on the terminal, at most; all of them are in ``results.json``."""

_NOT_SHOWN = frozenset({"run", "evaluation", "phase", "cycle", "split", "final/low", "final/high"})
"""Columns that ``results.json`` has and the terminal does not."""


def write_plan(prepared: Prepared) -> None:
    """Write ``plan.json``. Raises: OSError."""
    runs = [
        {
            "role": spec.role,
            "seed": spec.config.seed,
            "method": spec.config.method,
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
        draw(figure, folder / f"figure{suffix}")
    return [folder / name for name in ("results.json", "claims.json", "figure.png", "figure.svg")]


def rows_table(rows: Sequence[Row]) -> Table:
    """The numbers; what a row does not have is a dash."""
    columns = [
        key for key in dict.fromkeys(key for row in rows for key in row) if key not in _NOT_SHOWN
    ]
    table = Table(show_edge=False, pad_edge=False)
    for column in columns:
        numeric = all(isinstance(row.get(column, 0), (int, float)) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows[:_ROWS_SHOWN]:
        table.add_row(*(Text(_cell(row.get(column))) for column in columns))
    if len(rows) > _ROWS_SHOWN:
        table.caption = f"{_ROWS_SHOWN} of {len(rows)} rows: all are in results.json"
    return table


def claims_table(claims: Sequence[Claim]) -> Table:
    """Each claim with its estimate and 95 % interval over seeds, and whether it holds."""
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("claim", overflow="fold")
    for column in ("estimate", "95 % interval", "rule"):
        table.add_column(column, justify="right")
    table.add_column("holds")
    for claim in claims:
        low_high = claim.interval
        interval = f"{_cell(low_high[0])} to {_cell(low_high[1])}" if low_high else "-"
        rule = f"{claim.relation} {claim.threshold:g}"
        text = Text(one_line(claim.text))
        table.add_row(text, _cell(claim.estimate), interval, rule, claim.holds)
    return table


def runs_table(specs: Sequence[tuple[RunSpec, str]]) -> Table:
    """The runs of a plan, each with a remark."""
    table = Table(show_edge=False, pad_edge=False)
    for column in ("role", "seed", "steps", "folder", "begins from", "state"):
        table.add_column(column, overflow="fold")
    for spec, remark in specs:
        origin = spec.config.model if spec.after is None else spec.after.path.name
        steps, seed = str(spec.config.total_steps), str(spec.config.seed)
        cells = (spec.role, seed, steps, str(spec.path), origin, remark)
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) >= 100 or 0 < abs(value) < 0.001 else f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else one_line(str(value))


def _write_json(path: Path, content: Any) -> None:
    text = json.dumps(json.loads(dumps(content)), indent=2)  # what JSON cannot say is spelled out
    disk.write_text(path, text + "\n")
