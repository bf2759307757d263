"""RESULTS.md from results.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def write_tables(results: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Write both tables, in the order of ``results``."""
    parts = [
        "# Results",
        "Written by `run.py` from `results.json`; `README.md` says what the columns mean.",
        "## Verifiers",
        _table(
            ["task", "rows", "problems", "read in s", "verdicts", "s per 1,000", "a minute",
             "processor s per 1,000", "right scored 1", "wrong scored 1"],
            (_verifier(name, known["verifier"]) for name, known in results.items()
             if "verifier" in known),
        ),
        "## Accuracies",
        _table(
            ["task", "completions", "base", "after FST, best context", "after FST, seed context",
             "steps", "tokens", "s"],
            (_accuracy(name, known[part]) for name, known in results.items()
             for part in ("training", "evaluation") if part in known),
        ),
    ]  # fmt: skip
    path.write_text("\n\n".join(parts) + "\n")


def _verifier(name: str, known: Mapping[str, Any]) -> list[str]:
    seconds = known["seconds/1000_verdicts"]
    return [
        name,
        _count(known.get("rows")),
        _count(known.get("problems")),
        f"{known['seconds/read']:.1f}" if "seconds/read" in known else "",
        _count(known["verdicts"]),
        f"{seconds:.2f}",
        _count(round(60_000 / seconds, -2)),
        f"{known['processor_seconds/1000_verdicts']:.2f}",
        f"{known['right/scored_1']:.1%}",
        f"{known['wrong/scored_1']:.1%}",
    ]


def _accuracy(name: str, known: Mapping[str, Any]) -> list[str]:
    steps = known.get("steps")
    return [
        name,
        _count(known["base"]["n"]),
        _interval(known["base"]),
        _interval(known["best"]),
        _interval(known["seed"]) if "seed" in known else "",
        str(steps) if steps is not None else f"those of {known['run']}",
        _count(known.get("tokens")),
        f"{known['seconds']:.0f}",
    ]


def _interval(known: Mapping[str, Any]) -> str:
    return f"{known['accuracy']:.3f} ({known['accuracy/low']:.2f}-{known['accuracy/high']:.2f})"


def _count(number: float | None) -> str:
    return "" if number is None else f"{number:,.0f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))
