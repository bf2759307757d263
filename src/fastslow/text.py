"""Text that a model or a data set wrote, made fit to be shown to a person or read by a model.

There is one rule on which characters are hidden, ``is_hidden`` with ``_belongs``; the functions
differ in what becomes of those. Imports nothing of the project.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

_DEFAULT_IGNORABLE = (
    (0x00AD, 0x00AD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5),
    (0x180B, 0x180F), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164),
    (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
)  # fmt: skip
"""The property Default_Ignorable_Code_Point of Unicode 16, first and last of each range."""

_BLANK = "\u2800\U0001d159\U00013441\U00013442\U00016fe4"
"""Letters and symbols that draw nothing, and are no white space either."""

_ZWNJ, _ZWJ = "\u200c", "\u200d"
_EMOJI_STYLES = "\ufe0e\ufe0f"
"""The two variation selectors that choose between an emoji and a plain sign."""

_CURSIVE = ("ARABIC", "SYRIAC", "MANDAIC", "MONGOLIAN", "NKO", "ADLAM", "HANIFI")
"""First words of the names of letters that a ZWNJ keeps from joining."""

_ORDINARY = re.compile(r"[^\n\t -~]")
"""Everything but printable ASCII, new lines and tabs: what has to be looked at."""

_BLANKS = re.compile(r"[^\S\t\n]")


def is_hidden(character: str) -> bool:
    """Whether nobody sees the character, or it steers the display or the order of others.

    These are control, format, private, unassigned and surrogate characters, separators of lines
    and paragraphs, default ignorable ones, and blank letters.
    """
    code = ord(character)
    return (
        unicodedata.category(character) in ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")
        or any(first <= code <= last for first, last in _DEFAULT_IGNORABLE)
        or character in _BLANK
    )


def without_hidden(text: str) -> str:
    """``text`` as a person who reads it in a report sees it: nothing hidden, nothing steering.

    Every way to end a line becomes ``\\n``, every other white space a blank, and blanks at the end
    of a line go. Hidden characters are left out, but for joiners where letters or emoji join and
    for the style of an emoji: others could carry a message to the model past the person who checks
    a context, or make the text look like another one.
    """
    lines = (_each_hidden(line, lambda character: "") for line in text.splitlines())
    return "\n".join(_BLANKS.sub(" ", line).rstrip(" \t") for line in lines)


def spell_hidden(text: str) -> str:
    """``text`` with each hidden character spelled out, as ``⟨U+202E⟩``: nothing is lost.

    New lines and tabs stay; a carriage return before a new line is dropped.
    """
    return _each_hidden(text.replace("\r\n", "\n"), lambda c: f"⟨U+{ord(c):04X}⟩")


def _each_hidden(text: str, replaced: Callable[[str], str]) -> str:
    def look(match: re.Match[str]) -> str:
        character = match[0]
        if not is_hidden(character) or _belongs(text, match.start()):
            return character
        return replaced(character)

    return _ORDINARY.sub(look, text)


def _belongs(text: str, place: int) -> bool:
    """Whether a hidden character is part of the spelling where it stands: a joiner between what it
    joins or keeps apart (as RFC 5892, A.1 and A.2, and Unicode's emoji sequences have it), or the
    style of an emoji."""
    character, before, after = text[place], text[:place][-1:], text[place + 1 : place + 2]
    if not before or character not in _ZWNJ + _ZWJ + _EMOJI_STYLES:
        return False
    if character in _EMOJI_STYLES:
        return _is_pictogram(before) or (before in "#*0123456789" and after == "\u20e3")
    if not after:
        return False
    if unicodedata.combining(before) == 9 or unicodedata.combining(after) == 9:  # a virama
        return not is_hidden(after) and not is_hidden(before)
    if character == _ZWJ:
        styled = before in _EMOJI_STYLES and _belongs(text, place - 1)
        return (styled or _is_pictogram(before)) and _is_pictogram(after)
    return _is_cursive(before) and _is_cursive(after)


def _is_pictogram(character: str) -> bool:
    """Whether it can be an emoji or the tone of one."""
    if is_hidden(character):
        return False
    category = unicodedata.category(character)
    return category == "So" or (category in ("Sk", "Sm") and character >= "\u2190")


def _is_cursive(character: str) -> bool:
    return unicodedata.name(character, "").startswith(_CURSIVE)


def one_line(text: str) -> str:
    """``text`` on one line, without anything that steers a terminal.

    White space of any kind becomes one space; hidden characters are left out, joiners too. What is
    returned may still look like markup: print it as it is.
    """
    return " ".join(filter(None, map(_shown, text.split())))


def _shown(word: str) -> str:
    return word if word.isascii() and word.isprintable() else _without(word)


def _without(word: str) -> str:
    return "".join(character for character in word if not is_hidden(character))


def lines(text: str) -> list[str]:
    """``text`` line by line, each as in ``one_line``."""
    return [one_line(line) for line in text.splitlines()]


def well_formed(text: str) -> str:
    """``text`` as valid Unicode: halves of a pair are joined, a lone half becomes U+FFFD.

    A tokenizer or a JSON escape can hand over lone surrogates, which no file in UTF-8 can hold.
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def excerpt(text: str, limit: int = 200) -> str:
    """``text`` as one quoted line of at most about ``limit`` characters, its end first to go."""
    return repr(text if len(text) <= limit else f"{text[:limit]}...")
