"""What the studies' figures are made of: a line a run, or a point a run over categories."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fastslow.report.arms import COLOURS, LINES, MARKERS, Look
from fastslow.report.plot import Mark, Panel, Series

Line = tuple[Sequence[float], Sequence[float]]
"""[n] places and [n] values of one run."""

_BASE = Look("#777777", "x", (0, (1, 1)))
_FURTHER = (
    Look("#8a6d00", "v", (0, (5, 1))),
    Look("#9467bd", "X", (0, (3, 1, 1, 1))),
    Look("#17838f", "<", (0, (7, 2))),
    Look("#a05a2c", ">", (0, (5, 1, 1, 1, 1, 1))),
    Look("#5f7fbf", "P", (0, (2, 2))),
)
"""Looks of roles that are no method, in turn."""


def looks(roles: Iterable[str]) -> dict[str, Look]:
    """A look for each role; methods look as they do in a comparison of runs."""
    known = {method: Look(COLOURS[method], MARKERS[method], LINES[method]) for method in COLOURS}
    known["base"] = _BASE
    further = [role for role in dict.fromkeys(roles) if role not in known]
    return known | {role: _FURTHER[n % len(_FURTHER)] for n, role in enumerate(further)}


def line_panel(
    title: str,
    x_label: str,
    y_label: str,
    lines: Mapping[str, Sequence[Line]],
    *,
    fits: Mapping[str, Sequence[Line]] | None = None,
    boundaries: Sequence[float] = (),
    share: bool = True,
) -> Panel:
    """Lines by role, one a seed. Where ``fits`` are given, curves that were computed from them, the
    lines are points, so that one sees what was measured and what was fitted to it."""
    look = looks(lines)
    mark: Mark = "line" if fits is None else "measured"
    drawn = [
        Series(role, look[role], xs, ys, mark=mark)
        for role, some in lines.items()
        for xs, ys in some
        if len(xs)
    ]
    drawn += [
        Series(role, look[role], xs, ys, mark="fit")
        for role, some in (fits or {}).items()
        for xs, ys in some
    ]
    return Panel(title, x_label, y_label, drawn, share=share, boundaries=boundaries)


def point_panel(
    title: str, x_label: str, y_label: str, points: Mapping[str, Mapping[str, Sequence[float]]]
) -> Panel:
    """Points by role and category, one a seed; the roles of a category stand side by side."""
    look = looks(points)
    categories = list(dict.fromkeys(name for some in points.values() for name in some))
    drawn = []
    for number, (role, some) in enumerate(points.items()):
        offset = 0.12 * (number - (len(points) - 1) / 2)
        places = [categories.index(name) + offset for name in some for _ in some[name]]
        values = [value for name in some for value in some[name]]
        if values:
            drawn.append(Series(role, look[role], places, values, mark="measured"))
    ticks = {float(place): name for place, name in enumerate(categories)}
    return Panel(title, x_label, y_label, drawn, share=True, ticks=ticks)
