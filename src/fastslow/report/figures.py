"""Figures of runs: what people would rather see than read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastslow.report.summary import Row, RunRecord
from fastslow.run.text import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"rl": "#c2410c", "fst": "#1d4ed8", "fast": "#15803d"}
"""One colour per method, told apart by people who see no difference between red and green too."""

FORMATS = (".png", ".svg", ".pdf")

MARKERS = {"rl": "s", "fst": "o", "fast": "^"}


def draw_comparison(runs: Sequence[RunRecord], path: Path) -> None:
    """Write a figure: reward by slow step, validation accuracy, and the contexts over cycles.

    Runs of one method share a colour. The format follows the suffix, one of FORMATS.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    with pyplot.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
        _draw_rewards(axes[0], runs)
        _draw_accuracies(axes[1], runs)
        _draw_contexts(axes[2], runs)
        figure.savefig(path, dpi=160)
        pyplot.close(figure)


def _draw_rewards(axes: Axes, runs: Sequence[RunRecord]) -> None:
    labelled: set[str] = set()
    for run in runs:
        steps, rewards = run.curve("slow", "reward/mean")
        if steps:
            axes.plot(steps, rewards, linewidth=1.4, **_style(run, labelled), markersize=3)
    axes.set(title="Reward while training", xlabel="slow step", ylabel="mean reward of the batch")
    _finish(axes, bool(labelled))


def _draw_accuracies(axes: Axes, runs: Sequence[RunRecord]) -> None:
    labelled: set[str] = set()
    for run in runs:
        steps, accuracies = run.accuracy(run.trained_context)
        if run.config.uses_fast:  # before the first fast phase there is the seed context alone
            start = [(s, a) for s, a in zip(*run.accuracy("seed"), strict=True) if s == 0]
            steps = [s for s, _ in start] + steps
            accuracies = [a for _, a in start] + accuracies
        if steps:
            axes.plot(steps, accuracies, linewidth=1.4, **_style(run, labelled), markersize=5)
    split = runs[0].config.eval.split
    axes.set(title=f"Accuracy ({split} split)", xlabel="slow step", ylabel="accuracy")
    _finish(axes, bool(labelled))


def _draw_contexts(axes: Axes, runs: Sequence[RunRecord]) -> None:
    """Every context that a fast phase scored on all anchors: filled if kept, hollow if not.

    One that was turned down after its minibatch has a mean that cannot be set beside the others.
    """
    labelled: set[str] = set()
    cycles: set[int] = set()
    evolving = [run for run in runs if run.config.uses_fast]
    for number, run in enumerate(evolving):
        rows = [row for row in run.contexts if "phase_cycle" in row and "mean" in row]
        cycles |= {row["phase_cycle"] for row in rows}
        rows = [
            row
            for cycle in cycles
            for row in _on_most_anchors([r for r in rows if r["phase_cycle"] == cycle])
        ]
        offset = (number - (len(evolving) - 1) / 2) * 0.2
        for kept in (False, True):
            some = [row for row in rows if row["kept"] == kept]
            style = _style(run, labelled if kept else {run.config.method})
            colour = style.pop("color")
            axes.scatter(
                [row["phase_cycle"] + offset for row in some],
                [row["mean"] for row in some],
                s=22,
                edgecolors=colour,
                facecolors=colour if kept else "none",
                linewidths=0.8,
                alpha=0.75,
                **style,
            )
    axes.set(title="Contexts (filled: kept)", xlabel="cycle", ylabel="mean score on the anchors")
    axes.set_xticks(sorted(cycles))
    _finish(axes, bool(labelled))


def _on_most_anchors(rows: Sequence[Row]) -> list[Row]:
    most = max((len(row["scores"]) for row in rows), default=0)
    return [row for row in rows if len(row["scores"]) == most]


def _style(run: RunRecord, labelled: set[str]) -> dict[str, Any]:
    """Colour and marker of the run's method, and its label where it was not given yet."""
    method = run.config.method
    style = {"color": COLOURS[method], "marker": MARKERS[method]}
    if method not in labelled:
        style["label"] = one_line(method)
        labelled.add(method)
    return style


def _finish(axes: Axes, any_data: bool) -> None:
    axes.set_ylim(-0.03, 1.03)
    axes.grid(alpha=0.25)
    if any_data:
        axes.legend(frameon=False, loc="upper left")
