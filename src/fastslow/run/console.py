"""What a person sees of a run while it trains.

In a terminal: a display that is redrawn in place, below one line for each fast phase and
evaluation. Elsewhere (a file, a pipe): one plain line for each slow step, fast phase and
evaluation, and nothing between them.

Questions, contexts and answers come from models and datasets. They are shown as plain text, never
read as markup, and stripped of everything that steers a terminal.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, TextIO

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fastslow import terminal
from fastslow.config import RunConfig
from fastslow.fast.base import Evolution
from fastslow.redaction import redact
from fastslow.run.observer import Observer, Phase
from fastslow.run.state import LoopState
from fastslow.run.timing import Forecast, clock
from fastslow.slow.anomalies import Anomaly
from fastslow.streams import tolerant
from fastslow.text import lines, one_line
from fastslow.types import Candidate, Rollout

_SHOWN = {
    "reward/mean": "reward",
    "entropy": "entropy",
    "kl/base": "kl",
    "grad_norm": "grad",
}
"""The measures of a slow step that are worth a person's eye, in this order."""

_PREVIEW = 60
"""Columns of a context's instructions that are shown, at most."""

_BARS = "▁▂▃▄▅▆▇█"
_HISTORY = 32
"""Slow steps whose rewards are drawn as a line of bars."""


class Console(Observer):
    """Shows a run on ``file`` (standard output). Use it as a context manager.

    The display never ends a run: a file that cannot be written, or not all characters, is put up
    with (see ``streams``).

    Between entry and exit, warnings of ``fastslow``'s loggers, and what its fast phase reports, are
    shown as lines as well.
    """

    def __init__(self, config: RunConfig, file: TextIO | None = None) -> None:
        self._config = config
        self._file = tolerant(terminal.raw(file or sys.stdout))
        self._terminal = terminal.console(self._file, highlight=False, markup=False, emoji=False)
        self._display = _Display(config, Forecast(config))
        self._live = Live(
            console=self._terminal, get_renderable=self._display.render, refresh_per_second=4
        )
        self._handler = _LogLines(self)

    def __enter__(self) -> Console:
        self._handler.attach()
        config, steps = self._config, self._config.total_steps
        model = one_line(config.model)
        self.say(f"{one_line(config.run_name)}: {config.approach}, {model}, {steps} steps", "bold")
        if self._terminal.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._display.phase = None
        self._live.stop()
        self._handler.detach()

    def say(self, line: str, style: str = "") -> None:
        """Print a line, above the display if there is one. It is printed as it is: what a model or
        a dataset wrote goes through ``text.one_line`` before."""
        self._terminal.print(Text(line, style=style), soft_wrap=True)

    # What the loop tells.

    def on_progress(self, phase: Phase, done: int, total: int) -> None:
        self._display.forecast.begin()
        self._display.phase = (phase, done, total)

    def on_evolution(self, step: int, cycle: int, evolution: Evolution) -> None:
        best = evolution.population.best
        self._display.best = best
        kept = len(evolution.population.candidates)
        failed = evolution.failed_proposals
        parts = [
            f"{kept} of {_counted(len(evolution.candidates), 'context')} kept",
            _counted(evolution.metric_calls, "rollout"),
            *([f"{_counted(failed, 'proposal')} failed"] if failed else []),
        ]
        mean, *shown = describe(best)
        self._say_phase(
            f"cycle {cycle}", "fast", "  ".join([f"best {mean}", ", ".join(parts), *shown])
        )

    def on_metrics(self, row: Mapping[str, Any]) -> None:
        display, phase, step = self._display, row["phase"], row["step"]
        display.forecast.ended(phase, step, row["cycle"])
        display.phase = None
        if phase == "slow":
            display.slow(row)
            if not self._terminal.is_terminal:
                self._say_phase(f"step {step}/{self._config.total_steps}", "slow", _measures(row))
        elif phase == "eval":
            self._say_phase(f"step {step}/{self._config.total_steps}", "eval", _accuracy(row))

    def on_anomaly(
        self,
        step: int,
        cycle: int,
        rollouts: Sequence[Rollout],
        anomaly: Anomaly,
    ) -> None:
        blamed = f", in {', '.join(anomaly.rollouts[:3])}" if anomaly.rollouts else ""
        told = one_line(f"step {step} is skipped: {anomaly.cause}{blamed}")
        self.say(f"{'warning':<12} {told}", "yellow")

    def on_state(self, state: LoopState) -> None:
        self._display.forecast.step = state.step
        self._display.best = state.population.best

    def _say_phase(self, place: str, phase: Phase, what: str) -> None:
        line = Text(f"{place:<12} {phase:<5} {what}")
        if self._terminal.is_terminal:
            line.truncate(self._terminal.width, overflow="ellipsis")
        self._terminal.print(line, soft_wrap=True)


class _Display:
    """The part that is redrawn in place. It holds what was told last.

    A thread of its own draws it, so every attribute is replaced whole and read once.
    """

    def __init__(self, config: RunConfig, forecast: Forecast) -> None:
        self.config = config
        self.forecast = forecast
        self.phase: tuple[Phase, int, int] | None = None
        self.best: Candidate | None = None
        self._measures = ""
        self._rewards: tuple[float, ...] = ()

    def slow(self, row: Mapping[str, Any]) -> None:
        self._measures = _measures(row)
        if "reward/mean" in row:
            self._rewards = (*self._rewards, row["reward/mean"])[-_HISTORY:]

    def render(self) -> RenderableType:
        bars = Table.grid(padding=(0, 1))
        bars.add_column(min_width=6, no_wrap=True, style="bold")
        bars.add_column(width=30)
        bars.add_column(no_wrap=True)
        total = self.config.total_steps
        left = self.forecast.left()
        ending = f"  {clock(left)} left" if left else ""
        bars.add_row(*_bar("run", self.forecast.step, total, f"steps{ending}", "green"))
        if (phase := self.phase) is not None:
            name, done, of = phase
            bars.add_row(*_bar(name, done, of, "rollouts", "cyan"))

        told = []
        if measures := self._measures:
            told.append(_labelled("step", measures))
        if rewards := self._rewards:
            told.append(_labelled("reward", _sparkline(rewards), "green"))
        if (best := self.best) is not None:
            told.append(_labelled("best", "  ".join(describe(best))))
        return Group(bars, *told)


class _LogLines(logging.Handler):
    """Shows log records as lines: warnings, and from the fast phase what it reports as well."""

    _LOGGER = logging.getLogger("fastslow")
    _TALKATIVE = "fastslow.fast"

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._level_before = logging.NOTSET

    def attach(self) -> None:
        self._level_before = self._LOGGER.level
        self._LOGGER.setLevel(logging.INFO)
        self._LOGGER.addHandler(self)

    def detach(self) -> None:
        self._LOGGER.removeHandler(self)
        self._LOGGER.setLevel(self._level_before)

    def filter(self, record: logging.LogRecord) -> bool:
        is_fast = f"{record.name}.".startswith(f"{self._TALKATIVE}.")
        return record.levelno >= (logging.INFO if is_fast else logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        warned = record.levelno >= logging.WARNING
        for number, line in enumerate(lines(redact(self.format(record)))):
            name = record.levelname.lower() if number == 0 else ""
            self._console.say(f"{name:<12} {line}", style="yellow" if warned else "dim")


def describe(candidate: Candidate) -> tuple[str, str, str]:
    """A context in short: its mean score, its number of demonstrations, its first instructions."""
    context = candidate.context
    # Cut by characters first: marks that take no column could pile up without end.
    preview = Text(one_line(context.instructions[: 4 * _PREVIEW]))
    preview.truncate(_PREVIEW, overflow="ellipsis")
    return (
        "not scored" if candidate.mean is None else _number(candidate.mean),
        _counted(len(context.demonstrations), "demonstration"),
        f'"{preview.plain}"' if preview else "no instructions",
    )


def _bar(name: str, done: int, total: int, unit: str, colour: str) -> tuple[RenderableType, ...]:
    bar = ProgressBar(total=max(total, 1), completed=done, complete_style=colour)
    return Text(name), bar, Text(f"{done}/{total} {unit}")


def _labelled(name: str, text: str, style: str = "") -> RenderableType:
    label = (f"{name:<7}", "bold")
    return Text.assemble(label, (text, style), no_wrap=True, overflow="ellipsis")


def _measures(row: Mapping[str, Any]) -> str:
    shown = [f"{name} {_number(row[key])}" for key, name in _SHOWN.items() if key in row]
    return "  ".join(shown + _failed(row))


def _accuracy(row: Mapping[str, Any]) -> str:
    place = " ".join(one_line(str(row[key])) for key in ("task", "split") if key in row)
    counts = [
        _counted(row[key], what)
        for key, what in (("problems", "problem"), ("n", "rollout"))
        if key in row
    ]
    told = ", ".join([place, *counts, *_failed(row)])
    return f"accuracy {_number(row['accuracy'])} with {row['context']} context ({told})"


def _failed(row: Mapping[str, Any]) -> list[str]:
    """How many verdicts failed, where some did."""
    failed = row.get("verdicts/failed", 0)
    return [f"{_counted(failed, 'verdict')} failed"] if failed else []


def _number(value: float) -> str:
    return f"{value:.3f}" if value == 0 or 0.01 <= abs(value) < 1000 else f"{value:.2e}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _sparkline(rewards: Sequence[float]) -> str:
    """One bar for each reward; rewards lie in [0, 1]."""
    return "".join(_BARS[min(int(r * len(_BARS)), len(_BARS) - 1)] for r in rewards)
