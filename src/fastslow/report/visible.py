"""Text that a model, a data set or a configuration wrote, with nothing in it that hides.

Unlike ``run.text.one_line``, which leaves out what a terminal must not see, everything is kept: a
report shows what was read and written, character by character.
"""

from __future__ import annotations

import re
import unicodedata

_JOINERS = "\u200c\u200d"
"""Part of the spelling of Persian words and of many emoji; they neither hide nor reorder text."""

_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})

_CANDIDATE = re.compile(r"[^\n\t -~]")
"""Everything but printable ASCII, new lines and tabs: what has to be looked at."""


def visible(text: str) -> str:
    """``text`` with each character that cannot be seen, or that reorders others, spelled out.

    Control characters, marks that change the direction of writing, zero-width and tag characters,
    private and unassigned ones, lone surrogates and exotic line ends become ``⟨U+202E⟩``. New
    lines and tabs stay; a carriage return before a new line is dropped.
    """
    return _CANDIDATE.sub(_spell, text.replace("\r\n", "\n"))


def _spell(match: re.Match[str]) -> str:
    character = match[0]
    if unicodedata.category(character) not in _HIDDEN_CATEGORIES or character in _JOINERS:
        return character
    return f"⟨U+{ord(character):04X}⟩"
