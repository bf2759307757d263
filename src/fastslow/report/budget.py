"""How a page stays small: of what is many, no more is shown than there is room for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from markupsafe import Markup

PAGE = 5_000_000
"""Bytes of a page, at most: it is sent by mail and opened on a phone. The parts below may take
nearly all of it; tables and words take the rest."""

PICTURES = 1_600_000
CONTEXTS = 1_200_000
ROLLOUTS = 1_600_000

ROWS = 150
"""Rows of a table that the page shows; all of them are in the CSV file."""

Chosen = TypeVar("Chosen")


def fitted(
    choose: Callable[[int], Chosen],
    render: Callable[[Chosen], Markup],
    most: int,
    room: int,
) -> tuple[Chosen, Markup]:
    """What ``choose`` makes of a limit, and its text, in at most ``room`` bytes of UTF-8.

    The limit is ``most``, or so often half of it that the text fits; at 0 it is shown as it is.
    """
    while True:
        chosen = choose(most)
        text = render(chosen)
        if most == 0 or len(text.encode("utf-8", "replace")) <= room:
            return chosen, text
        most //= 2


def share(total: int, part: int, parts: int) -> int:
    """What falls to ``part`` (from 0) of ``parts``: the same to each, or one more."""
    return total * (part + 1) // parts - total * part // parts
