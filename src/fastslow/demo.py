"""The demo: plain RL and FST side by side on the embedded model, in minutes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from rich.console import Console

from fastslow import terminal
from fastslow.places import given
from fastslow.report.figures import draw_comparison
from fastslow.report.tables import comparison
from fastslow.run.record import RunRecord, read_run
from fastslow.text import lines
from fastslow.training import train

METHODS = ("rl", "fst")


def run_demo(folder: Path, seed: int, overrides: Sequence[str]) -> None:
    """Train both methods on the same problems and seed; print a table, draw a figure, show the best
    context.

    Raises:
        InputError: the runs exist already, or the model cannot be had.
    """
    records, folder = [], given(folder)
    with resources.as_file(resources.files("fastslow") / "demo.toml") as path:
        for method in METHODS:
            result = train(
                path,
                [
                    f'method="{method}"',
                    f"seed={seed}",
                    f'name="demo-{method}-seed{seed}"',
                    f"log.folder={json.dumps(str(folder))}",
                    *overrides,
                ],
            )
            records.append(read_run(result.folder))
    figure = folder / f"demo-seed{seed}.png"
    draw_comparison(records, figure)
    console: Console = terminal.console()
    console.print()
    console.print(comparison(records))
    _show_best(console, records[-1])
    console.print(f"\nfigure: {figure}", highlight=False)


def _show_best(console: Console, record: RunRecord) -> None:
    context = record.best_context
    if context is None:
        return
    console.print("\nBest context found:", style="bold")
    for message in context.messages("...")[:-1]:
        for number, line in enumerate(lines(message["content"])):
            role = message["role"] if number == 0 else ""
            console.print(f"  {role:<10} {line}", markup=False, highlight=False)
