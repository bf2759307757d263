from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from fastslow.run.rollouts import COLUMNS, read_rollouts, write_rollouts
from fastslow.testing import rollout as made
from fastslow.testing import turn
from fastslow.types import Failure, Problem, Rollout, Verdict

PROBLEM = Problem("p", "1 + 41?", {"answer": 42})


def test_a_rollout_is_read_back_with_every_column(
    tmp_path: Path, rollout: Callable[..., Rollout]
) -> None:
    path = write_rollouts(tmp_path, "slow", 12, 3, [rollout(PROBLEM, score=0.25)])
    assert path.name == "slow_000012.parquet"
    table = read_rollouts(path)
    assert table.column_names == list(COLUMNS)
    (row,) = table.to_pylist()
    assert json.loads(row.pop("reference")) == {"answer": 42}
    assert row.pop("logprobs") == pytest.approx([-0.1, -2.5])
    assert row == {
        "phase": "slow",
        "step": 12,
        "cycle": 3,
        "problem_id": "p",
        "question": "1 + 41?",
        "context": "c",
        "text": "42",
        "token_ids": [7, 8],
        "prompt_tokens": 3,
        "score": 0.25,
        "feedback": "well done",
        "finished": True,
        "policy_version": 4,
    }


def test_a_folder_is_read_by_sql_and_as_a_whole(
    tmp_path: Path, rollout: Callable[..., Rollout]
) -> None:
    store = tmp_path / "rollouts"
    store.mkdir()
    for step, score in ((1, 0.0), (2, 1.0)):
        write_rollouts(store, "slow", step, 0, [rollout(PROBLEM, score=score)] * 3)
    rows = duckdb.sql(
        f"SELECT step, avg(score), len(any_value(token_ids)) FROM '{store}/slow_*.parquet' "
        "GROUP BY step ORDER BY step"
    ).fetchall()
    assert rows == [(1, 0.0, 2), (2, 1.0, 2)]
    assert read_rollouts(tmp_path).num_rows == 6


def test_a_run_without_rollouts_reads_as_an_empty_table(tmp_path: Path) -> None:
    assert read_rollouts(tmp_path).column_names == list(COLUMNS)


def test_files_are_named_by_phase_and_never_overwritten(
    tmp_path: Path, rollout: Callable[..., Rollout]
) -> None:
    names = [
        write_rollouts(tmp_path, phase, 12, 3, [rollout(PROBLEM)]).name
        for phase in ("fast", "eval", "eval", "eval")
    ]
    assert names == [
        "fast_c0003.parquet",
        "eval_000012.parquet",
        "eval_000012_2.parquet",
        "eval_000012_3.parquet",
    ]


def test_a_failed_verdict_has_no_score(tmp_path: Path) -> None:
    failed = made("p", "c", Failure("it raised ValueError: no", "Traceback"), turn("t"))
    graded = made("p", "c", Verdict(0.0, "wrong"), turn("t"))
    path = write_rollouts(tmp_path, "slow", 1, 0, [failed, graded])
    rows = read_rollouts(path).to_pylist()
    assert [(row["score"], row["feedback"]) for row in rows] == [
        (None, "it raised ValueError: no"),
        (0.0, "wrong"),
    ]


def test_no_text_or_reference_of_a_model_or_task_can_stop_the_writing(tmp_path: Path) -> None:
    hostile = "\x00\x1b[2J\ud800\u202e'; DROP TABLE x; --"
    said = turn(hostile, read=(), sampled=(), logprobs=(-math.inf,), finished=False)
    problem = Problem(hostile, hostile, {1, 2}.__class__)
    written = made(problem, "c", Verdict(0.0, hostile), said)
    (row,) = read_rollouts(write_rollouts(tmp_path, "eval", 0, 0, [written])).to_pylist()
    assert row["text"] == row["question"] == hostile.replace("\ud800", "\ufffd")
    assert row["logprobs"] == [-math.inf]
    assert json.loads(row["reference"]) == "<class 'set'>"
