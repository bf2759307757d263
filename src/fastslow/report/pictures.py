"""The panels of a page: as SVG, or those with too many points for that as PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fastslow.report.plot import Figure, Panel, describe, save_panel
from fastslow.report.svg import inline_svg
from fastslow.text import spell_hidden


@dataclass(frozen=True)
class Picture:
    """A panel as the page shows it."""

    title: str
    markup: Markup
    is_drawing: bool
    """Whether it is made of lines (SVG), and not of dots (PNG)."""


def pictures(figures: Sequence[Figure], room: int) -> Mapping[str, Sequence[Picture]]:
    """The pictures of each figure, by its name, in at most ``room`` bytes where that can be done.

    The largest drawings become PNG, one after the other, until all of them fit.
    """
    panels = {
        (figure.name, number): panel
        for figure in figures
        for number, panel in enumerate(figure.panels)
    }
    drawn = {
        key: Picture(panel.title, Markup(inline_svg(panel, "figure-{}-{}".format(*key))), True)
        for key, panel in panels.items()
    }
    size = sum(map(_size, drawn.values()))
    for key in sorted(panels, key=lambda key: -_size(drawn[key])):
        if size <= room:
            break
        dots = Picture(panels[key].title, _inline_png(panels[key]), False)
        if _size(dots) < _size(drawn[key]):
            size += _size(dots) - _size(drawn[key])
            drawn[key] = dots
    return {
        figure.name: [drawn[figure.name, number] for number in range(len(figure.panels))]
        for figure in figures
    }


def _size(picture: Picture) -> int:
    return len(picture.markup.encode("utf-8", "replace"))


def _inline_png(panel: Panel) -> Markup:
    """``panel`` on white, as an ``<img>`` that holds its file."""
    file = io.BytesIO()
    save_panel(panel, file, format="png", dpi=150)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    words = spell_hidden(f"{panel.title}: {describe(panel)}")
    return Markup('<img src="data:image/png;base64,{}" alt="{}">').format(data, words)
