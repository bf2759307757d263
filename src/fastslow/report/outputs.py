"""What ``fastslow compare -o`` writes, by the name that it is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastslow.errors import InputError
from fastslow.report.figures import draw_comparison, write_figures
from fastslow.report.html import write_report
from fastslow.report.plot import FORMATS
from fastslow.report.summary import write_summary
from fastslow.run.record import RunRecord

SUFFIXES = (".html", *FORMATS, ".json")


def check_output(path: Path) -> None:
    """Raises: InputError if the name says of no kind of output that it is one."""
    if path.suffix not in SUFFIXES and not _is_folder(path):
        raise InputError(
            f"--output {path}: ends in none of {', '.join(SUFFIXES)}, nor is it a folder"
        )


def write_output(runs: Sequence[RunRecord], path: Path) -> None:
    """Write a report (.html), one figure (.png, .svg, .pdf), the outcome (.json), or every figure
    of the report into a folder: any other name without a suffix.

    Raises:
        InputError: ``path`` cannot be written, or a file of a run cannot be read.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if _is_folder(path):
            write_figures(runs, path)
        elif path.suffix == ".html":
            write_report(runs, path)
        elif path.suffix == ".json":
            write_summary(runs, path)
        else:
            draw_comparison(runs, path)
    except OSError as error:
        raise InputError(f"--output {path}: cannot be written: {error}") from None


def _is_folder(path: Path) -> bool:
    return path.is_dir() or not path.suffix
