"""Absurd counts in a configuration: each ends in one message, at once."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from fastslow.config import RunConfig, parse
from fastslow.dry_run import describe
from fastslow.errors import InputError
from fastslow.run.changes import refuse_changes

BASE = """
model = "smollm2-135m"
steps = 4
task = {name = "star_graph", train = 64, validation = 8, test = 0}
slow = {problems = 2, group = 4}
log = {folder = "FOLDER"}
"""

COUNTS = (
    "steps",
    "fast.population",
    "fast.every",
    "fast.budget",
    "fast.proposals",
    "fast.minibatch",
    "fast.pool",
    "fast.demonstrations.max_turns",
    "fast.demonstrations.max_tokens",
    "fast.demonstrations.probe",
    "fast.reflection.max_tokens",
    "fast.reflection.retries",
    "fast.reflection.max_characters",
    "slow.problems",
    "slow.group",
    "slow.warmup",
    "slow.tokens_per_pass",
    "slow.max_skipped",
    "slow.lora.rank",
    "policy.max_tokens",
    "policy.rows",
    "eval.every",
    "eval.problems",
    "eval.samples",
    "log.checkpoint_every",
    "log.keep",
    "task.d",
    "task.l",
    "task.nodes",
    "task.train",
    "task.validation",
    "task.test",
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "c.toml"
    path.write_text(BASE.replace("FOLDER", str(tmp_path / "runs")))
    return path


@pytest.mark.parametrize("key", [*COUNTS, "seed", "task.data_seed"])
def test_a_count_beyond_all_bounds_is_refused_by_its_key(file: Path, key: str) -> None:
    for value in (10**19, -1):
        with pytest.raises(InputError, match=rf"{key.partition('.')[2] or key}.*: input should be"):
            describe(file, [f"{key}={value}"])


@pytest.mark.parametrize("value", [10**5, 10**9])
@pytest.mark.parametrize("key", [key for key in COUNTS if not key.startswith("task.")])
def test_a_large_count_is_planned_or_refused_at_once(file: Path, key: str, value: int) -> None:
    with contextlib.suppress(InputError):
        assert "# stage:" in describe(file, [f"{key}={value}"])


def test_what_may_be_secret_is_not_shown_where_a_change_is_refused() -> None:
    def config(value: str) -> RunConfig:
        task = {"name": "jsonl", "api_key": value}
        return parse({"model": "m", "steps": 4, "task": task})

    with pytest.raises(InputError, match=r"task\.api_key: the run was trained with str") as refused:
        refuse_changes(config("first words"), config("other words"), "c.toml")
    assert "words" not in str(refused.value)
