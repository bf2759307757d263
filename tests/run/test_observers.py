from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastslow.fast.base import Evolution
from fastslow.run.observers import Fanout
from fastslow.run.state import LoopState
from fastslow.types import Candidate, Population


class Recorder:
    def __init__(self, name: str, told: list[Any]) -> None:
        self.name, self.told = name, told

    def __getattr__(self, call: str) -> Callable[..., None]:
        return lambda *arguments: self.told.append((self.name, call, arguments))


def test_everything_is_told_to_each_observer_in_order(candidate: Callable[..., Candidate]) -> None:
    told: list[Any] = []
    fanout = Fanout(Recorder("a", told), Recorder("b", told))
    population = Population((candidate(),))
    evolution = Evolution(population, population.candidates, {}, 0, 0, 0)
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("on_progress", ("fast", 1, 2)),
        ("on_rollouts", ("slow", 1, 0, [])),
        ("on_evolution", (1, 0, evolution)),
        ("on_metrics", ({"step": 1},)),
        ("on_state", (LoopState(1, 0, population),)),
    ]
    for call, arguments in calls:
        getattr(fanout, call)(*arguments)
    assert told == [(name, *call) for call in calls for name in "ab"]
