"""The rollout store: one parquet file for each fast phase, slow step and evaluation.

Read it with whatever reads parquet; all files of a run have the same columns::

    SELECT step, avg(score) FROM 'runs/NAME/rollouts/slow_*.parquet' GROUP BY step
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastslow.errors import InputError
from fastslow.regular import open_regular
from fastslow.run import disk
from fastslow.run.observer import Phase
from fastslow.text import well_formed
from fastslow.types import Failure, Rollout

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

MAX_ROWS = 1_000_000
"""Rollouts of one file, which is one step's, one fast phase's or one evaluation's."""

COLUMNS = {
    "phase": "string",
    "step": "int32",
    "cycle": "int32",
    "problem_id": "string",
    "question": "string",
    "reference": "string",  # the verifier's reference, as JSON text
    "context": "string",  # digest, as in contexts.jsonl
    "text": "string",
    "token_ids": "list<int32>",
    "logprobs": "list<float32>",  # nats, of the distribution that was sampled from
    "prompt_tokens": "int32",
    "score": "float64",  # null where the verifier failed: then feedback says how
    "feedback": "string",
    "finished": "bool",
    "policy_version": "int32",
}


def write_rollouts(
    folder: Path,
    phase: Phase,
    step: int,
    cycle: int,
    rollouts: Sequence[Rollout],
) -> Path:
    """Write the rollouts as a new file in ``folder``, whole or not at all. Raises: OSError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [_row(phase, step, cycle, rollout) for rollout in rollouts]
    path = _unused(folder, f"fast_c{cycle:04d}" if phase == "fast" else f"{phase}_{step:06d}")
    temporary = disk.partial(path)
    try:
        with disk.begin(path) as file:
            pq.write_table(pa.Table.from_pylist(rows, _schema()), file, compression="zstd")
        disk.publish(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return path


def read_rollouts(path: Path) -> pa.Table:
    """All rollouts of a run, or those of one file, as one table with ``COLUMNS``.

    ``path`` is a run's folder or a parquet file in it. The files of a folder come in the order of
    their names. Raises: InputError, as ``open_rollouts``.
    """
    import pyarrow as pa

    files = rollout_files(path) if path.is_dir() else [path]
    tables = []
    for file in files:
        with open_rollouts(file) as opened, reading(file):
            tables.append(opened.read().select(list(COLUMNS)))
    return pa.concat_tables(tables) if tables else _schema().empty_table()


def rollout_files(run: Path) -> list[Path]:
    """The files of a run's rollouts, in the order of their names."""
    return sorted((run / "rollouts").glob("*.parquet"))


@contextmanager
def open_rollouts(path: Path) -> Iterator[pq.ParquetFile]:
    """A file of rollouts, of which no more than the footer has been read.

    Texts are read as the file has them: once each, however many rows share one.

    Raises:
        InputError: it is no regular file, no parquet, lacks a column or has one of another type, or
            says that it holds more rows than one step samples.
    """
    import pyarrow.parquet as pq

    with ExitStack() as stack:
        with reading(path):
            file = stack.enter_context(os.fdopen(open_regular(path), "rb"))
            opened = stack.enter_context(pq.ParquetFile(file))
            schema = opened.schema_arrow
        for expected in _schema():
            types = [field.type for field in schema if field.name == expected.name]
            if types != [expected.type]:
                found = " and ".join(map(str, types)) or "missing"
                raise InputError(
                    f"{path}: the column {expected.name!r} is {found}; expected one of type "
                    f"{expected.type}. No run writes such a file: move it away"
                )
        if opened.metadata.num_rows > MAX_ROWS:
            raise InputError(
                f"{path}: says that it holds {opened.metadata.num_rows:,} rollouts; one step "
                f"samples at most {MAX_ROWS:,}. No run writes such a file: move it away"
            )
        yield opened


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what parquet raises over a damaged file into an InputError that names it."""
    import pyarrow as pa

    try:
        yield
    except (OSError, ValueError, KeyError, MemoryError, pa.ArrowException) as error:
        raise InputError(f"{path}: rollouts cannot be read: {error}") from None


def _schema() -> pa.Schema:
    import pyarrow as pa

    kinds = {
        "string": pa.string(),
        "int32": pa.int32(),
        "float64": pa.float64(),
        "bool": pa.bool_(),
        "list<int32>": pa.list_(pa.int32()),
        "list<float32>": pa.list_(pa.float32()),
    }
    return pa.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])


def _unused(folder: Path, stem: str) -> Path:
    """``stem``.parquet, or with a number where one step has several, as evaluations do."""
    path, number = folder / f"{stem}.parquet", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}_{number}.parquet"
    return path


def _row(phase: Phase, step: int, cycle: int, rollout: Rollout) -> dict[str, Any]:
    problem, verdict = rollout.problem, rollout.verdict
    graded: dict[str, Any]
    if isinstance(verdict, Failure):
        graded = {"score": None, "feedback": well_formed(verdict.reason)}
    else:
        graded = {"score": verdict.score, "feedback": well_formed(verdict.feedback)}
    return {
        "phase": phase,
        "step": step,
        "cycle": cycle,
        "problem_id": well_formed(problem.id),
        "question": well_formed(problem.question),
        # A task of one's own may use any object as a reference; its repr is still worth reading.
        "reference": json.dumps(problem.reference, default=repr),
        "context": rollout.context.digest,
        "text": well_formed(rollout.text),
        "token_ids": rollout.sampled,
        "logprobs": rollout.logprobs,
        "prompt_tokens": len(rollout.prompt),
        **graded,
        "finished": rollout.finished,
        "policy_version": rollout.policy_version,
    }
