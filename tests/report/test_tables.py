from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console

from fastslow.report.tables import comparison
from fastslow.run.record import read_run

Make = Callable[..., Any]


def shown(*records: Any) -> list[str]:
    """The table's lines on a wide terminal."""
    console = Console(width=200)
    with console.capture() as capture:
        console.print(comparison(records))
    return capture.get().splitlines()[2:]


def test_a_row_a_run(write_run: Make, slow: Make, evaluated: Make) -> None:
    metrics = [
        evaluated(0, "seed", 0.125),
        slow(1, **{"reward/mean": 0.5, "kl/base": 0.25, "tokens/sampled": 1234}),
        slow(2, **{"reward/mean": 0.25, "kl/base": 0.0125, "seconds/update": 61.2}),
        evaluated(2, "seed", 0.625),
    ]
    lines = shown(
        read_run(write_run("first", metrics, method="rl")),
        read_run(write_run("second", [slow(3)])),
    )
    cells = [[cell.strip() for cell in line.split("│")] for line in lines]
    assert cells == [
        ["first", "2", "0.125", "0.625", "0.375", "0.0125", "1,234", "61 s"],
        ["second", "3", "-", "-", "-", "-", "0", "0 s"],
    ]


def test_hostile_names_are_plain_text(write_run: Make, slow: Make) -> None:
    name = "[red]a[/red]\x1b[31m\x07b\u202e\nc[/nope]"
    (line,) = shown(read_run(write_run(name, [slow(1)])))
    assert line.startswith("[red]a[/red][31mb c[/nope]")
    assert "\x1b" not in line
    assert "\u202e" not in line
