"""A bounded, deterministic sample of the rollouts of some runs, for reading.

It is read once, and made smaller where a page has no room for all of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any, get_args

from fastslow.errors import InputError
from fastslow.report.budget import share
from fastslow.run.observer import Phase
from fastslow.run.record import RunRecord
from fastslow.run.rollouts import open_rollouts, reading, rollout_files
from fastslow.text import excerpt

SHOWN = 600
"""Rollouts of all runs together, at most: some hundred kilobytes of short completions."""

LEAST = 24
"""Rollouts of one run, at least: two ends of three phases, four of each."""

LONGEST = 6000
"""Characters of one text, at most."""

LOOKED_AT = 2_000_000
"""Rollouts of one run that the choice is made among: of more, the files are sampled first."""

PHASES = get_args(Phase)

_BATCH = 64
"""Rows whose texts are in memory at a time."""

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
    """Reads three columns, and the texts of what was chosen: a run may be large. Of one with more
    rollouts than ``LOOKED_AT``, only some files are looked at."""
    counts = {path: _count(path) for path in rollout_files(run.path)}
    files = _spread(counts)
    places: list[Place] = []
    ends: list[int] = []
    for path in files:
        places += _places(path)
        ends.append(len(places))
    chosen = choose(places, limit)
    rows: list[dict[str, Any]] = []
    start = 0
    for path, end in zip(files, ends, strict=True):
        inside = [position - start for position in chosen if start <= position < end]
        if inside:
            rows += _read(path, inside)
        start = end
    return RolloutSample(run, tuple(rows), sum(counts.values()))


def _count(path: Path) -> int:
    with open_rollouts(path) as file:
        return int(file.metadata.num_rows)


def _spread(counts: Mapping[Path, int]) -> list[Path]:
    """Files that hold at most about ``LOOKED_AT`` rollouts together: the first and the last of each
    phase, and others that lie evenly between them."""
    files = [path for path, count in counts.items() if count]
    if sum(counts.values()) <= LOOKED_AT:
        return files
    phases: dict[str, list[Path]] = {}
    for path in files:
        phases.setdefault(path.name.partition("_")[0], []).append(path)
    ends = {path for members in phases.values() for path in (members[0], members[-1])}
    room = LOOKED_AT // max(counts.values())
    stride = max(1, -(-len(files) // max(room, 1)))
    return [path for number, path in enumerate(files) if number % stride == 0 or path in ends]


def _places(path: Path) -> list[Place]:
    with open_rollouts(path) as file, reading(path):
        table = file.read(columns=list(_KEYS))
        phases, steps, scores = (table.column(key).to_pylist() for key in _KEYS)
    for number, (phase, step, score) in enumerate(zip(phases, steps, scores, strict=True), start=1):
        # NaN is not between 0 and 1 either.
        if phase not in PHASES or step is None or not (score is None or 0 <= score <= 1):
            raise InputError(
                f"{path}: row {number}: expected a phase, a step and a score from 0 to 1; found "
                f"{excerpt(str(phase))}, {step}, {score}. No run writes such a file: move it away"
            )
    return list(map(Place, phases, steps, scores))


def _read(path: Path, positions: Sequence[int]) -> list[dict[str, Any]]:
    """The rows at some positions of a file, rising, their texts cut as a page shows them."""
    import pyarrow.compute as pc

    found: list[dict[str, Any]] = []
    start, wanted = 0, deque(positions)
    columns = [*_KEYS, *_TEXTS, "token_ids"]
    with open_rollouts(path) as file, reading(path):
        for batch in file.iter_batches(_BATCH, columns=columns):
            inside: list[int] = []
            while wanted and wanted[0] < start + batch.num_rows:
                inside.append(wanted.popleft() - start)
            start += batch.num_rows
            some = batch.take(inside)
            tokens = pc.list_value_length(some.column("token_ids")).to_pylist()
            texts = some.drop_columns(["token_ids"]).to_pylist()
            found += [{**_cut(row), "tokens": n or 0} for row, n in zip(texts, tokens, strict=True)]
            if not wanted:
                break
    return found


def _cut(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with no text longer than is shown; one that is missing is empty."""
    texts = {key: cut(row[key] or "") for key in _TEXTS if key not in ("cycle", "finished")}
    return {**row, **texts}
