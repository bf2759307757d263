"""Runs side by side, as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from fastslow.report.names import distinctly_named
from fastslow.report.overview import steps_done
from fastslow.run.record import RunRecord
from fastslow.text import one_line


def comparison(runs: Sequence[RunRecord]) -> Table:
    """One row a run; a measure that a run does not have is a dash.

    ``base`` and ``final`` are accuracies before and after training, ``reward`` is the mean of the
    last T slow steps, ``KL`` the last step's to the base policy, in nats per token.
    """
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("run", overflow="fold")
    for column in ("steps", "base", "final", "reward", "KL", "tokens", "time"):
        table.add_column(column, justify="right")
    for run in distinctly_named(runs):
        divergences = run.curve("slow", "kl/base")[1]
        table.add_row(
            Text(one_line(run.name)),
            str(steps_done(run)),
            _share(run.base_accuracy),
            _share(run.final_accuracy),
            _share(run.final_reward),
            f"{divergences[-1]:.4f}" if divergences else "-",
            f"{run.tokens_sampled:,}",
            f"{run.seconds:.0f} s",
        )
    return table


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
