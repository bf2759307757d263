"""Names by which the runs of one comparison are told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

from fastslow.run.record import RunRecord


def distinctly_named(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """The runs, those of one name with what differs in the paths of their folders behind it.

    ``a/seed0/run`` and ``b/seed0/run``, both named "run", become "run (a)" and "run (b)". A folder
    that was given twice is numbered.
    """
    named: list[RunRecord] = []
    for run in runs:
        places = [other.path for other in runs if other.name == run.name]
        name = run.name if len(places) == 1 else f"{run.name} ({_difference(run.path, places)})"
        times = sum(other.path == run.path for other in [*named, run])
        named.append(_renamed(run, name if times == 1 else f"{name} #{times}"))
    return named


def _difference(path: Path, paths: Sequence[Path]) -> str:
    """The parts of ``path`` between those that all the paths begin with and those that all end in.

    At least one part of every path remains.
    """
    shortest = min(len(one.parts) for one in paths)
    first = min(_shared([one.parts for one in paths]), shortest - 1)
    rests = [one.parts[first:] for one in paths]
    last = min(_shared([rest[::-1] for rest in rests]), shortest - first - 1)
    parts = path.parts[first:]
    return "/".join(parts[: len(parts) - last])


def _shared(paths: Sequence[Sequence[str]]) -> int:
    """How many parts all paths begin with in common."""
    return len(list(takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))))


def _renamed(run: RunRecord, name: str) -> RunRecord:
    if name == run.name:
        return run
    return replace(run, config=run.config.model_copy(update={"name": name}))
