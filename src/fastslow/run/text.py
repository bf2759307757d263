"""Text that a model or a dataset wrote, made fit to be shown to a person."""

from __future__ import annotations

import unicodedata


def one_line(text: str) -> str:
    """``text`` on one line, without anything that steers a terminal.

    White space of any kind becomes one space. Control characters (escape sequences start with
    one), characters that change the direction of writing, surrogates and characters without a
    meaning are left out. What is returned may still look like markup: print it as it is.
    """
    return " ".join(filter(None, map(_visible, text.split())))


def _visible(word: str) -> str:
    return "".join(c for c in word if unicodedata.category(c)[0] != "C")


def lines(text: str) -> list[str]:
    """``text`` line by line, each as in ``one_line``."""
    return [one_line(line) for line in text.splitlines()]


def well_formed(text: str) -> str:
    """``text`` as valid Unicode: halves of a pair are joined, a lone half becomes U+FFFD.

    A tokenizer or a JSON escape can hand over lone surrogates, which no file in UTF-8 can hold.
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
