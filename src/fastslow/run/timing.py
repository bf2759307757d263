"""How long a run will still take, judged by what it has done since it was started or resumed."""

from __future__ import annotations

import time
from collections.abc import Callable

from fastslow.config import RunConfig
from fastslow.run.observer import Phase


class Forecast:
    """Measures slow steps, and what each cycle costs besides them: its fast phase and evaluations.

    Attributes:
        step: slow steps done in the whole run, including those before it was resumed.
    """

    def __init__(self, config: RunConfig, now: Callable[[], float] = time.monotonic) -> None:
        every = config.fast.every
        self.step = 0
        self._total_steps = config.total_steps
        self._total_cycles = sum(-(-stage.steps // every) for stage in config.all_stages)
        self._uses_slow = config.uses_slow
        self._now = now
        self._since: float | None = None
        self._slow_seconds = 0.0
        self._slow_steps = 0
        self._other_seconds = 0.0
        self._cycles: set[int] = set()

    def begin(self) -> None:
        """The first work begins: what was loaded before does not count. Only the first call does
        anything."""
        if self._since is None:
            self._since = self._now()

    def ended(self, phase: Phase, step: int, cycle: int) -> None:
        """A part of the run of this phase has just ended; the next one begins."""
        now = self._now()
        seconds = 0.0 if self._since is None else now - self._since
        if phase == "slow":
            self._slow_seconds += seconds
            self._slow_steps += 1
        else:
            self._other_seconds += seconds
        self._cycles.add(cycle)
        self._since = now
        self.step = step

    def left(self) -> float | None:
        """Seconds to the end of the run, or None as long as too little was measured."""
        measured = self._slow_steps or not self._uses_slow
        if self._since is None or not self._cycles or not measured:
            return None
        per_step = self._slow_seconds / max(self._slow_steps, 1)
        per_cycle = self._other_seconds / len(self._cycles)
        cycles_left = max(self._total_cycles - max(self._cycles) - 1, 0)
        estimate = per_step * (self._total_steps - self.step) + per_cycle * cycles_left
        return max(estimate - (self._now() - self._since), 0.0)


def clock(seconds: float) -> str:
    """``seconds`` as h:mm:ss."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}"
