from __future__ import annotations

import pytest

from fastslow.config import RunConfig
from fastslow.run.timing import Forecast, clock


class Watch:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_slow_steps_and_cycles_are_counted_apart(config: RunConfig) -> None:
    watch = Watch()
    forecast = Forecast(config, watch)  # six steps in three cycles
    watch.seconds = 100.0  # a model is loaded
    forecast.begin()
    assert forecast.left() is None
    watch.seconds += 30
    forecast.ended("fast", 0, 0)
    assert forecast.left() is None  # no slow step was measured yet
    for step in (1, 2):
        watch.seconds += 5
        forecast.ended("slow", step, 0)
    assert forecast.left() == pytest.approx(4 * 5 + 2 * 30)
    watch.seconds += 10
    assert forecast.left() == pytest.approx(4 * 5 + 2 * 30 - 10)
    watch.seconds += 1000
    assert forecast.left() == 0


def test_a_run_of_contexts_only_is_told_by_its_cycles(config: RunConfig) -> None:
    watch = Watch()
    forecast = Forecast(config.model_copy(update={"method": "fast"}), watch)
    forecast.begin()
    watch.seconds = 7.0
    forecast.ended("fast", 0, 0)
    assert forecast.left() == pytest.approx(14)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00:00"), (75, "0:01:15"), (36_061, "10:01:01")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
