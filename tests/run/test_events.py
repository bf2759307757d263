from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fastslow.run.events import Events


@pytest.fixture
def read(tmp_path: Path) -> Callable[[], EventAccumulator]:
    def load() -> EventAccumulator:
        accumulator = EventAccumulator(str(tmp_path / "events"))
        accumulator.Reload()
        return accumulator

    return load


@pytest.fixture
def events(tmp_path: Path) -> Events:
    return Events(tmp_path / "events")


def test_measures_become_scalars_that_can_be_read_at_once(
    events: Events, read: Callable[[], EventAccumulator]
) -> None:
    row = {"step": 3, "cycle": 1, "phase": "slow", "time": 12.5, "reward/mean": 0.25, "task": "t"}
    events.metrics(row)
    found = read()
    assert found.Tags()["scalars"] == ["slow/reward/mean"]
    (scalar,) = found.Scalars("slow/reward/mean")
    assert (scalar.step, scalar.wall_time, scalar.value) == (3, 12.5, 0.25)


def test_evaluations_of_one_step_are_told_apart(
    events: Events, read: Callable[[], EventAccumulator]
) -> None:
    row = {"step": 0, "cycle": 0, "phase": "eval", "time": 1.0, "task": "t", "split": "test"}
    events.metrics({**row, "context": "seed", "accuracy": 0.0})
    events.metrics({**row, "context": "best", "accuracy": 1.0})
    assert read().Tags()["scalars"] == ["eval/t/test/seed/accuracy", "eval/t/test/best/accuracy"]


def test_the_best_context_is_shown_as_code(
    events: Events, read: Callable[[], EventAccumulator]
) -> None:
    record: dict[str, Any] = {
        "step": 2,
        "time": 1.0,
        "instructions": "# No title\n<script>\x1b[2J\ud800",
        "demonstrations": [{"question": "1 + 1?", "answer": "2"}],
    }
    events.context(record)  # not kept
    events.context({**record, "rank": 2})
    events.context({**record, "rank": 1})
    (tensor,) = read().Tensors("context/best")
    (text,) = tensor.tensor_proto.string_val
    assert text.decode().splitlines() == [
        "    system:    # No title",
        "    system:    <script>[2J",
        "    user:      1 + 1?",
        "    assistant: 2",
    ]


def test_writing_events_does_not_bring_a_framework_in(events: Events) -> None:
    assert "tensorflow" not in sys.modules
