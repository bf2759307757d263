"""A bounded, deterministic sample of the rollouts of some runs, for reading.

It is read once, and made smaller where a page has no room for all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

from fastslow.errors import InputError
from fastslow.report.budget import share
from fastslow.run.record import RunRecord

SHOWN = 600
"""Rollouts of all runs together, at most: some hundred kilobytes of short completions."""

LEAST = 24
"""Rollouts of one run, at least: two ends of three phases, four of each."""

LONGEST = 6000
"""Characters of one text, at most."""

_KEYS = ("phase", "step", "score")
_TEXTS = ("cycle", "problem_id", "question", "reference", "context", "text", "feedback", "finished")


@dataclass(frozen=True)
class Place:
    """Where a rollout stands in a run, and how it did: what the choice is made by.

    Attributes:
        score: None where the verifier failed.
    """

    phase: str
    step: int
    score: float | None


@dataclass(frozen=True)
class RolloutSample:
    """Some rollouts of a run.

    Attributes:
        rows: ``phase``, ``step``, ``score``, ``cycle``, ``problem_id``, ``question``,
            ``reference``, ``context`` (digest), ``text``, ``feedback``, ``finished`` and
            ``tokens`` each.
        total: rollouts that the run's folder holds.
    """

    run: RunRecord
    rows: tuple[dict[str, Any], ...]
    total: int

    @property
    def left_out(self) -> int:
        return self.total - len(self.rows)


def sample_rollouts(runs: Sequence[RunRecord]) -> list[RolloutSample]:
    """A sample of each run that keeps its rollouts, see ``choose``.

    Raises:
        InputError: a file of rollouts cannot be read.
    """
    limit = max(LEAST, SHOWN // len(runs))
    samples = [_sample(run, limit) for run in runs]
    return [sample for sample in samples if sample.rows]


def choose(places: Sequence[Place], limit: int) -> list[int]:
    """Positions of at most ``limit`` rollouts, rising.

    First of all, of the first and the last step of each phase: the best, the worst, the first and
    the last. Then rollouts that lie evenly over the whole run.
    """
    steps: dict[tuple[str, int], list[int]] = {}
    for position, place in enumerate(places):
        steps.setdefault((place.phase, place.step), []).append(position)
    ends: dict[str, list[list[int]]] = {}
    for (phase, _), members in sorted(steps.items()):
        ends.setdefault(phase, []).append(members)
    chosen: dict[int, None] = {}
    for groups in ends.values():
        for members in (groups[0], groups[-1]):
            graded = [(score, i) for i in members if (score := places[i].score) is not None]
            best = max(graded, key=itemgetter(0), default=(None, members[0]))[1]
            worst = min(graded, key=itemgetter(0), default=(None, members[0]))[1]
            chosen.update(dict.fromkeys((best, worst, members[0], members[-1])))
    rest = [position for position in range(len(places)) if position not in chosen]
    room = max(0, limit - len(chosen))
    count = min(room, len(rest))
    evenly = [rest[number * len(rest) // count] for number in range(count)]
    return sorted([*list(chosen)[:limit], *evenly])


def thinned(samples: Sequence[RolloutSample], limit: int) -> list[RolloutSample]:
    """The samples with at most ``limit`` rollouts together, chosen of each as ``choose`` does."""
    return [
        _thinned(sample, share(limit, number, len(samples)))
        for number, sample in enumerate(samples)
    ]


def cut(text: str) -> str:
    """``text`` within ``LONGEST`` characters: its middle is left out, for the end of a completion
    is where its answer stands."""
    left_out = len(text) - LONGEST
    if left_out <= 0:
        return text
    half = LONGEST // 2
    return f"{text[:half]}\n… {left_out:,} characters left out …\n{text[-half:]}"


def _thinned(sample: RolloutSample, limit: int) -> RolloutSample:
    places = [Place(**{key: row[key] for key in _KEYS}) for row in sample.rows]
    return replace(sample, rows=tuple(sample.rows[i] for i in choose(places, limit)))


def _sample(run: RunRecord, limit: int) -> RolloutSample:
    """Reads two columns of everything and the texts of what was chosen: a run may be large."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted((run.path / "rollouts").glob("*.parquet"))
    places: list[Place] = []
    ends: list[int] = []
    path = Path()
    try:
        for path in files:
            keys = pq.read_table(path, columns=list(_KEYS)).to_pylist()
            places += [Place(**row) for row in keys]
            ends.append(len(places))
        chosen = choose(places, limit)
        rows: list[dict[str, Any]] = []
        start = 0
        for path, end in zip(files, ends, strict=True):
            inside = [position - start for position in chosen if start <= position < end]
            if inside:
                table = pq.read_table(path, columns=[*_KEYS, *_TEXTS, "token_ids"]).take(inside)
                rows += map(_count_tokens, table.to_pylist())
            start = end
    except (OSError, KeyError, pa.ArrowException) as error:
        raise InputError(f"{path}: rollouts cannot be read: {error}") from None
    return RolloutSample(run, tuple(rows), len(places))


def _count_tokens(row: dict[str, Any]) -> dict[str, Any]:
    tokens = row.pop("token_ids")
    return {**row, "tokens": len(tokens)}
