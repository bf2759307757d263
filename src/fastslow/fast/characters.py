"""The characters that a context may be made of when a language model wrote it."""

from __future__ import annotations

import unicodedata

_JOINERS = "\u200c\u200d"
"""Invisible, but Persian, the scripts of India and many emoji cannot be written without them."""

_EMOJI_STYLES = "\ufe0e\ufe0f"
"""The two variation selectors that choose between an emoji and a plain sign."""


def visible(text: str) -> str:
    """``text`` as a person who reads it in a report sees it: nothing hidden, nothing steering.

    Every way to end a line becomes ``\\n``. Left out are control characters but the tab, marks
    that change the direction of writing, invisible characters and tags (but joiners), variation
    selectors (but those of emoji), surrogates, private characters and unassigned ones. Each of
    them could carry a message to the model past the person who checks a context, or make the text
    look like another one.
    """
    return "\n".join("".join(filter(_is_visible, line)) for line in text.splitlines())


def _is_visible(character: str) -> bool:
    if character in "\t" + _JOINERS + _EMOJI_STYLES:
        return True
    if "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef":
        return False
    return unicodedata.category(character)[0] != "C"
