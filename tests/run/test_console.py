from __future__ import annotations

import io
import logging
import re
import unicodedata
from collections.abc import Callable

import pytest
from rich.cells import cell_len

from fastslow.config import RunConfig
from fastslow.fast.base import Evolution
from fastslow.run.console import Console
from fastslow.run.state import LoopState
from fastslow.types import Candidate, Population

HOSTILE = "\x1b]0;owned\x07\x1b[2J[bold red]x[/bold red] \u202eevil\r\n:smile: \ud800"
SEEN = "]0;owned[2J[bold red]x[/bold red] evil :smile:"
"""How HOSTILE is shown: harmless, and not read as markup."""

ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Tty(io.StringIO):
    """A terminal that remembers what was written to it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Tty:
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}.items():
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return Tty()


Tell = Callable[[Console], None]


@pytest.fixture
def tell(candidate: Callable[..., Candidate]) -> Tell:
    """One cycle of a run, as the loop tells it to an observer."""

    def one_cycle(console: Console) -> None:
        best = candidate(HOSTILE, scores={"a": 0.25, "b": 0.5})
        population = Population((best,))
        place = {"task": "chain_sum", "split": "validation"}
        for done in range(0, 9, 4):
            console.on_progress("fast", done, 8)
        evolution = Evolution(population, (candidate(), best), {}, 8, 2, 1)
        console.on_evolution(0, 0, evolution)
        console.on_metrics({"step": 0, "cycle": 0, "phase": "fast", "metric_calls": 8})
        for step in (1, 2):
            for done in range(16):
                console.on_progress("slow", done, 16)
            row = {"step": step, "cycle": 0, "phase": "slow", "reward/mean": step / 2, "kl/base": 0}
            console.on_metrics({**row, "entropy": 0.00123})
            console.on_state(LoopState(step, 0, population))
        row = {"step": 2, "cycle": 0, "phase": "eval", **place}
        console.on_metrics({**row, "context": "best", "accuracy": 0.5, "problems": 8, "n": 64})

    return one_cycle


def test_failed_verdicts_are_counted(config: RunConfig) -> None:
    file = io.StringIO()
    place = {"step": 1, "cycle": 0, "verdicts/failed": 3}
    with Console(config, file) as console:
        console.on_metrics({**place, "phase": "slow", "reward/mean": 0.5})
        console.on_metrics(
            {**place, "phase": "eval", "context": "seed", "accuracy": 0.5, "n": 1, "task": "t"}
        )
    _, slow, evaluation = file.getvalue().splitlines()
    assert slow.endswith("reward 0.500  3 verdicts failed")
    assert evaluation.endswith("(t, 1 rollout, 3 verdicts failed)")


def test_a_file_gets_one_plain_line_for_each_event(config: RunConfig, tell: Tell) -> None:
    file = io.StringIO()
    with Console(config, file) as console:
        tell(console)
    assert file.getvalue().splitlines() == [
        "fst-chain_sum-seed0: fst, smollm2-135m, 6 steps",
        "cycle 0      fast  best 0.375  1 of 2 contexts kept, 8 rollouts, 1 proposal failed  "
        f'1 demonstration  "{SEEN}"',
        "step 1/6     slow  reward 0.500  entropy 1.23e-03  kl 0.000",
        "step 2/6     slow  reward 1.000  entropy 1.23e-03  kl 0.000",
        "step 2/6     eval  accuracy 0.500 with best context "
        "(chain_sum validation, 8 problems, 64 rollouts)",
    ]


def test_a_terminal_gets_a_display_that_fits(config: RunConfig, terminal: Tty, tell: Tell) -> None:
    with Console(config, terminal) as console:
        console.on_progress("slow", 7, 16)
        tell(console)
    shown = ESCAPE_SEQUENCE.sub("", terminal.getvalue())
    assert all(cell_len(line) <= 80 for line in re.split(r"[\r\n]+", shown))
    last = shown[shown.rindex("run  ") :]
    assert "2/6 steps" in last
    assert "reward 1.000" in last
    assert "▅█" in last  # the rewards of both steps, as bars
    assert "best   0.375  1 demonstration  " in last
    assert "slow  reward" not in shown  # no line for each slow step
    assert "rollouts" not in last  # no phase is under way at the end


def test_nothing_a_model_wrote_steers_the_terminal(
    config: RunConfig, terminal: Tty, tell: Tell
) -> None:
    with Console(config, terminal) as console:
        tell(console)
        logging.getLogger("fastslow.fast.reflection").warning("it said: %s", HOSTILE)
    written = terminal.getvalue()
    for sequence in ("\x1b]", "\x1b[2J", "\x07", "\u202e", "\U0001f604", "\ud800"):
        assert sequence not in written
    assert "it said: ]0;owned[2J[bold red]x[/bold red] evil" in written
    rest = ESCAPE_SEQUENCE.sub("", written)
    assert not [c for c in rest if c not in "\r\n" and unicodedata.category(c)[0] == "C"]


def test_a_long_context_is_cut(config: RunConfig, candidate: Callable[..., Candidate]) -> None:
    file = io.StringIO()
    population = Population((candidate("東京 " * 1000 + "e" + "\u0301" * 10_000),))
    with Console(config, file) as console:
        console.on_evolution(0, 0, Evolution(population, population.candidates, {}, 1, 0, 0))
    line = file.getvalue().splitlines()[-1]
    assert line.endswith('…"')
    assert cell_len(line) < 160


def test_warnings_and_what_the_fast_phase_reports_are_shown(config: RunConfig) -> None:
    log, before = logging.getLogger("fastslow"), logging.getLogger("fastslow").level
    file = io.StringIO()
    with Console(config, file):
        logging.getLogger("fastslow.fast.gepa").info("proposal %d was refused", 3)
        logging.getLogger("fastslow.fastidious").info("not of the fast phase")
        logging.getLogger("fastslow.run.folder").info("not shown")
        logging.getLogger("fastslow.run.folder").warning("first line\nsecond line")
    log.warning("after the end")
    assert file.getvalue().splitlines()[1:] == [
        "info         proposal 3 was refused",
        "warning      first line",
        "             second line",
    ]
    assert (log.level, log.handlers) == (before, [])


def test_an_output_without_unicode_does_not_end_a_run(config: RunConfig, tell: Tell) -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    with Console(config.model_copy(update={"name": "été"}), file) as console:
        tell(console)
    file.flush()
    assert raw.getvalue().startswith(b"?t?: fst, smollm2-135m, 6 steps\n")
