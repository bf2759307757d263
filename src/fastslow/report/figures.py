"""The figures of a comparison: all that a report shows, as files too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastslow.report.arms import arms_of
from fastslow.report.asymptotes import asymptotes, asymptotes_figure
from fastslow.report.curves import accuracy_figures, reward_figure, training_figure
from fastslow.report.drift import drift_figure
from fastslow.report.efficiency import efficiency_figure
from fastslow.report.lineage import contexts_figure
from fastslow.report.names import distinctly_named
from fastslow.report.plot import FORMATS, Figure, draw
from fastslow.report.quadrants import quadrants_figure, read_quadrants
from fastslow.run.record import RunRecord


def draw_comparison(runs: Sequence[RunRecord], path: Path) -> None:
    """Write one figure of the whole: reward, accuracy, and contexts where any evolved.

    The format follows the suffix, one of ``plot.FORMATS``. Raises: OSError.
    """
    arms = arms_of(distinctly_named(runs))
    parts = [reward_figure(arms), *accuracy_figures(arms)[:1], contexts_figure(arms)]
    panels = [panel for part in parts for panel in part.panels]
    draw(Figure("comparison", "Comparison", "", panels), path)


def write_figures(runs: Sequence[RunRecord], folder: Path) -> list[Path]:
    """Write every figure of the report to ``folder`` as PNG, SVG and PDF.

    Raises:
        OSError: a file cannot be written.
        InputError: a run's ``quadrants.json`` is not what it should be.
    """
    arms = arms_of(distinctly_named(runs))
    figures = [
        *accuracy_figures(arms),
        reward_figure(arms),
        drift_figure(arms),
        efficiency_figure(arms),
        asymptotes_figure(asymptotes(arms)),
        quadrants_figure(read_quadrants(arms)),
        training_figure(arms),
        contexts_figure(arms),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for figure in figures:
        if figure.panels:
            for suffix in FORMATS:
                paths.append(folder / f"{figure.name}{suffix}")
                draw(figure, paths[-1])
    return paths
