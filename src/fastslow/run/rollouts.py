"""The rollout store: one parquet file for each fast phase, slow step and evaluation.

Read it with whatever reads parquet; all files of a run have the same columns::

    SELECT step, avg(score) FROM 'runs/NAME/rollouts/slow_*.parquet' GROUP BY step
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastslow.run import disk
from fastslow.run.observer import Phase
from fastslow.text import well_formed
from fastslow.types import Problem, Rollout

if TYPE_CHECKING:
    import pyarrow as pa

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
    "score": "float64",
    "feedback": "string",
    "finished": "bool",
    "policy_version": "int32",
}


def write_rollouts(
    folder: Path,
    phase: Phase,
    step: int,
    cycle: int,
    problems: Mapping[str, Problem],
    rollouts: Sequence[Rollout],
) -> Path:
    """Write the rollouts as a new file in ``folder``, whole or not at all. Raises: OSError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [_row(phase, step, cycle, problems[r.problem_id], r) for r in rollouts]
    path = _unused(folder, f"fast_c{cycle:04d}" if phase == "fast" else f"{phase}_{step:06d}")
    temporary = disk.partial(path)
    try:
        pq.write_table(pa.Table.from_pylist(rows, _schema()), temporary, compression="zstd")
        disk.publish(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return path


def read_rollouts(path: Path) -> pa.Table:
    """All rollouts of a run, or those of one file, as one table with ``COLUMNS``.

    ``path`` is a run's folder or a parquet file in it. The files of a folder come in the order of
    their names.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted((path / "rollouts").glob("*.parquet")) if path.is_dir() else [path]
    tables = [pq.read_table(file, schema=_schema()) for file in files]
    return pa.concat_tables(tables) if tables else _schema().empty_table()


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


def _row(phase: Phase, step: int, cycle: int, problem: Problem, rollout: Rollout) -> dict[str, Any]:
    completion = rollout.completion
    return {
        "phase": phase,
        "step": step,
        "cycle": cycle,
        "problem_id": well_formed(problem.id),
        "question": well_formed(problem.question),
        # A task of one's own may use any object as a reference; its repr is still worth reading.
        "reference": json.dumps(problem.reference, default=repr),
        "context": rollout.context,
        "text": well_formed(completion.text),
        "token_ids": completion.token_ids,
        "logprobs": completion.logprobs,
        "prompt_tokens": len(completion.prompt_ids),
        "score": rollout.reward,
        "feedback": well_formed(rollout.verdict.feedback),
        "finished": completion.finished,
        "policy_version": completion.policy_version,
    }
