"""Runs written by hand: a configuration and the rows that a loop would have told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fastslow import config as configuration
from fastslow.run.serial import dumps
from fastslow.run.toml import to_toml

Row = dict[str, Any]


def approached(approach: str, slow: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run that comparisons call so."""
    if approach != "distill":
        return {"method": approach, "slow": dict(slow)}
    return {"method": "fst", "slow": {**slow, "algorithm": "distill"}}


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a run's folder: its settings, metrics and contexts."""

    def write(
        name: str = "run",
        metrics: Sequence[Row] = (),
        contexts: Sequence[Row] = (),
        approach: str | None = None,
        **settings: Any,
    ) -> Path:
        folder = tmp_path / f"folder{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        config = configuration.parse(
            {
                "model": "m",
                "name": name,
                "steps": 8,
                "task": {"name": "star_graph"},
                "fast": {"every": 2},
                **settings,
                **({} if approach is None else approached(approach, settings.get("slow", {}))),
            }
        )
        (folder / "config.toml").write_text(to_toml(config), encoding="utf-8")
        for file, rows in (("metrics", metrics), ("contexts", contexts)):
            text = "".join(dumps(row) + "\n" for row in rows)
            (folder / f"{file}.jsonl").write_text(text, encoding="ascii")
        return folder

    return write


@pytest.fixture
def slow() -> Callable[..., Row]:
    def row(step: int, **measures: Any) -> Row:
        return {
            "step": step,
            "cycle": max(step - 1, 0) // 2,
            "phase": "slow",
            "time": 0.0,
            **measures,
        }

    return row


@pytest.fixture
def evaluated() -> Callable[..., Row]:
    def row(step: int, context: str, accuracy: float, task: str = "star_graph") -> Row:
        return {
            "step": step,
            "cycle": step // 2,
            "phase": "eval",
            "time": 0.0,
            "task": task,
            "split": "validation",
            "context": context,
            "accuracy": accuracy,
            "n": 8,
        }

    return row


@pytest.fixture
def context() -> Callable[..., Row]:
    def row(instructions: str, rank: int | None = None, cycle: int | None = 0, **more: Any) -> Row:
        return {
            **({} if cycle is None else {"phase_cycle": cycle}),
            **({} if rank is None else {"rank": rank}),
            "step": 0,
            "digest": instructions,
            "parents": [],
            "origin": "seed",
            "cycle": 0,
            "kept": rank is not None,
            "instructions": instructions,
            "demonstrations": [],
            "scores": {},
            **more,
        }

    return row
