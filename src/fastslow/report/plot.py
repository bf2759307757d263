"""What a figure is, and how one is drawn: in the style of a paper, readable without colour.

A figure is data first: panels of series. Drawing it, describing it in words and writing its numbers
as a table all read the same data.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Literal

from fastslow.report.arms import Look
from fastslow.report.table import Table
from fastslow.text import one_line

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

FORMATS = (".png", ".svg", ".pdf")

PANEL_SIZE = (3.7, 2.8)
"""Inches: a column of a paper, and a phone."""

_COLUMNS = 3
"""Panels side by side, at most."""

_LABEL_WIDTH = 44
"""Characters of a legend's or tick's text, at most."""

_LEGEND_ROW = 0.17
"""Inches."""

Mark = Literal["line", "faint", "fit", "measured", "filled", "hollow"]
"""How a series is drawn. line: points joined; faint: one of several seeds; fit: a curve without
points; measured: points without a curve; filled and hollow: contexts that were kept, or not."""


@dataclass(frozen=True)
class Series:
    """Points of a panel that belong together.

    Attributes:
        label: what the legend calls it; series of one label share an entry.
        x, y: [n] coordinates.
        low, high: [n] a band, or error bars of points that are not joined; empty: none.
    """

    label: str
    look: Look
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    mark: Mark = "line"


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        share: whether y is a share of one, drawn from 0.
        boundaries: places on x where a new stage begins.
        ticks: texts that stand on x in place of numbers.
        counted: whether x counts something, so that there is nothing between two whole numbers.
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    share: bool = False
    boundaries: Sequence[float] = ()
    ticks: Mapping[float, str] = field(default_factory=dict)
    counted: bool = False


@dataclass(frozen=True)
class Figure:
    """Panels that answer one question.

    Attributes:
        name: stem of its files.
        caption: what is drawn and what bands and marks mean.
    """

    name: str
    title: str
    caption: str
    panels: Sequence[Panel]

    def table(self) -> Table:
        """Every number that is drawn, one row a point."""
        rows = [
            [panel.title, series.label, _MARK_NAMES[series.mark], x, y, low, high]
            for panel in self.panels
            for series in panel.series
            for x, y, low, high in _points(series)
        ]
        columns = ["panel", "series", "kind", "x", "y", "low", "high"]
        return Table(self.name, f"{self.title}: the numbers.", columns, rows).measured


_MARK_NAMES: Mapping[Mark, str] = {
    "line": "line",
    "faint": "one seed",
    "fit": "fit",
    "measured": "measured",
    "filled": "kept",
    "hollow": "not kept",
}


def describe(panel: Panel) -> str:
    """The panel in words, for people who do not see it: where each line begins and ends."""
    if panel.ticks:
        parts = [
            f"{series.label}: "
            + ", ".join(f"{panel.ticks[round(x)]} {y:.3g}" for x, y, *_ in _points(series))
            for series in panel.series
        ]
    else:
        parts = [
            f"{series.label}: from {series.y[0]:.3g} at {series.x[0]:g} "
            f"to {series.y[-1]:.3g} at {series.x[-1]:g}"
            if series.mark == "line"
            else f"{series.label}, {_MARK_NAMES[series.mark]}: {len(series.x)} points"
            for series in panel.series
            if series.mark not in ("faint", "fit")
        ]
    return f"{panel.y_label} against {panel.x_label}. " + "; ".join(parts) + "."


def draw(figure: Figure, path: Path) -> None:
    """Write the figure to ``path``; its suffix, one of FORMATS, says how. Raises: OSError."""
    from matplotlib import pyplot

    rows = max(1, math.ceil(len(figure.panels) / _COLUMNS))
    columns = max(1, math.ceil(len(figure.panels) / rows))  # four are two and two
    size = (PANEL_SIZE[0] * columns, PANEL_SIZE[1] * rows)
    with paper_style():
        canvas, grid = pyplot.subplots(
            rows, columns, figsize=size, layout="constrained", squeeze=False
        )
        places = grid.flatten()
        try:
            for axes, panel in zip(places, figure.panels, strict=False):
                paint(axes, panel)
            for axes in places[len(figure.panels) :]:
                axes.set_axis_off()
            add_legend(canvas)
            # No date, and names made of the content: the same runs give the same file.
            metadata: dict[str, Any] = {} if path.suffix == ".png" else {_DATE[path.suffix]: None}
            canvas.savefig(path, dpi=200, metadata=metadata)
        finally:
            pyplot.close(canvas)


_DATE = {".svg": "Date", ".pdf": "CreationDate"}


def save_panel(panel: Panel, file: IO[Any], **options: Any) -> None:
    """Write a single panel, with its legend and without its title, which the text around it says;
    ``options`` are those of matplotlib's ``savefig``."""
    from matplotlib import pyplot

    with paper_style():
        canvas, axes = pyplot.subplots(figsize=PANEL_SIZE, layout="constrained")
        try:
            paint(axes, panel)
            axes.set_title("")
            add_legend(canvas)
            canvas.savefig(file, **options)
        finally:
            pyplot.close(canvas)


@contextmanager
def paper_style() -> Iterator[None]:
    """Matplotlib as a paper wants it: text stays text, no mathematics in names."""
    import matplotlib

    matplotlib.use("agg")
    style: dict[Any, Any] = {
        "font.size": 9,
        "axes.titlesize": 9,
        "legend.fontsize": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "lines.linewidth": 1.4,
        "lines.markersize": 4,
        "svg.fonttype": "none",
        "svg.hashsalt": "fastslow",
        "pdf.fonttype": 42,
        "text.parse_math": False,
    }
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # A name may hold characters that the font lacks; they are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def paint(axes: Axes, panel: Panel) -> None:
    """Draw ``panel`` on ``axes``, without a legend."""
    from matplotlib.ticker import MaxNLocator

    for series in panel.series:
        _PAINTERS[series.mark](axes, series)
    for place in panel.boundaries:
        axes.axvline(place, color="#777777", linewidth=0.8, linestyle=(0, (2, 2)))
    axes.set(title=short(panel.title), xlabel=panel.x_label, ylabel=panel.y_label)
    if panel.ticks:
        axes.set_xticks(list(panel.ticks), [short(text) for text in panel.ticks.values()])
        axes.margins(x=0.15)
    if panel.counted:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if panel.share:
        top = max((y for s in panel.series for y in [*s.y, *s.high]), default=1.0)
        top = min(1.0, 1.1 * top) or 1.0
        axes.set_ylim(-0.03 * top, 1.03 * top)
    axes.grid(color="#777777", alpha=0.25, linewidth=0.6)


def add_legend(canvas: Canvas) -> None:
    """One legend below all panels, each label once. The canvas grows by the rows beyond the first,
    so that many labels take nothing from the panels."""
    entries: dict[str, Any] = {}
    for axes in canvas.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        width, height = canvas.get_size_inches()
        longest = max(map(len, entries))
        columns = 4 if longest < 12 else 2 if longest < 26 else 1
        columns *= round(width / PANEL_SIZE[0])
        canvas.set_size_inches(width, height + _LEGEND_ROW * ((len(entries) - 1) // columns))
        canvas.legend(
            entries.values(),
            entries.keys(),
            loc="outside lower center",
            ncols=columns,
            frameon=False,
        )


def short(text: str) -> str:
    """``text`` on one line that fits into a figure."""
    line = one_line(text)
    return line if len(line) <= _LABEL_WIDTH else line[: _LABEL_WIDTH - 1] + "…"


def _paint_line(axes: Axes, series: Series) -> None:
    look = series.look
    if series.low:
        axes.fill_between(
            series.x, series.low, series.high, color=look.colour, alpha=0.18, linewidth=0
        )
    axes.plot(
        series.x,
        series.y,
        color=look.colour,
        linestyle=look.line,
        marker=look.marker,
        markevery=max(1, len(series.x) // 15),
        label=_legend(series),
    )


def _paint_faint(axes: Axes, series: Series) -> None:
    axes.plot(series.x, series.y, color=series.look.colour, linewidth=0.7, alpha=0.45)


def _paint_fit(axes: Axes, series: Series) -> None:
    """Thin and in fine dashes, the same for all: what was measured stands out against it."""
    axes.plot(
        series.x,
        series.y,
        color=series.look.colour,
        linewidth=0.9,
        linestyle=(0, (2, 1.5)),
        label=f"{_legend(series)}, fitted",
    )


def _paint_points(axes: Axes, series: Series) -> None:
    look = series.look
    if series.low:
        below = [y - low for y, low in zip(series.y, series.low, strict=True)]
        above = [high - y for y, high in zip(series.y, series.high, strict=True)]
        axes.errorbar(
            series.x, series.y, yerr=[below, above], fmt="none", ecolor=look.colour, capsize=2
        )
    axes.scatter(
        series.x, series.y, s=22, color=look.colour, marker=look.marker, label=_legend(series)
    )


def _paint_hollow(axes: Axes, series: Series) -> None:
    axes.scatter(
        series.x,
        series.y,
        s=22,
        edgecolors=series.look.colour,
        facecolors="none",
        linewidths=0.8,
        marker=series.look.marker,
    )


_PAINTERS = {
    "line": _paint_line,
    "faint": _paint_faint,
    "fit": _paint_fit,
    "measured": _paint_points,
    "filled": _paint_points,
    "hollow": _paint_hollow,
}


def _legend(series: Series) -> str:
    # Matplotlib keeps labels that begin with an underscore out of legends.
    return short(series.label).lstrip("_") or "?"


def _points(series: Series) -> Iterator[tuple[float, float, float | None, float | None]]:
    for i, (x, y) in enumerate(zip(series.x, series.y, strict=True)):
        band = (series.low[i], series.high[i]) if series.low else (None, None)
        yield x, y, *band
