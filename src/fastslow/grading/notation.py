r"""One notation for answers that people and models write in many.

``plain`` settles characters: what Unicode spells in several ways becomes ASCII or a LaTeX command.
``normalise`` settles the notation of a whole answer: wrappers, fonts, sizes and spaces that mean
nothing go, and each sign has one spelling, by the tables of ``words.toml``. ``split`` and
``unwrap`` read the structure of what is left. All take time linear in the text, and never raise.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterator
from html.entities import html5
from importlib.resources import files
from typing import Any

from fastslow.text import without_hidden

WORDS: dict[str, Any] = tomllib.loads((files("fastslow.grading") / "words.toml").read_text("utf-8"))
"""Tables of rules, characters, commands, units and other words."""

_NEGATION = rf"(?<![A-Za-z])(?:{'|'.join(WORDS['negations'].split())})(?![A-Za-z])"
NEGATION = re.compile(_NEGATION, re.IGNORECASE)
"""Words that turn round what is said after them."""

_RULES = {
    table: [(re.compile(pattern.replace("NEGATION", _NEGATION)), new) for pattern, new in pairs]
    for table, pairs in WORDS["rules"].items()
}


def respelt(text: str, table: str) -> str:
    """``text`` after the rules of a table, each a pattern and its replacement, in their order."""
    for pattern, replacement in _RULES[table]:
        text = pattern.sub(replacement, text)
    return text


# Characters.

_SIGNS = {html5[f"{name};"]: f"\\{name} " for name in WORDS["named"].split()}
_CHARACTERS = str.maketrans(
    _SIGNS | {each: sign for sign, each_of in WORDS["characters"].items() for each in each_of}
)
_RAISED_OR_LOWERED = re.compile("[\u2070\u00b9\u00b2\u00b3\u2074-\u207f]+|[\u2080-\u208e]+")
_VULGAR = re.compile("(?<=[0-9])(?=[\u00bc-\u00be\u2150-\u215f])")
_THOUSANDS = re.compile(r"\{,\}|(?<=[0-9])(?:,\\!|\\[,!](?=[0-9]{3}(?![0-9])))")


def plain(text: str) -> str:
    r"""``text`` with one spelling of each character: "\u22125" is "-5", "\u215e" "7/8"."""
    if text.isascii():
        return text
    text = _VULGAR.sub(" ", without_hidden(text).translate(_CHARACTERS))
    text = _RAISED_OR_LOWERED.sub(_script, text)
    return unicodedata.normalize("NFKC", text).translate(_CHARACTERS)


def _script(run: re.Match[str]) -> str:
    return ("_{%s}" if "\u2080" <= run.group() <= "\u208e" else "^{%s}") % run.group()


def grouped(text: str) -> str:
    r"""``text`` with a comma for what LaTeX writes between thousands: "1\,234", "1{,}234"."""
    return _THOUSANDS.sub(",", text)


# Answers.

_COMMANDS = {
    f"\\{name}": sign for sign, names in WORDS["commands"].items() for name in names.split()
}


def normalise(text: str) -> str:
    """An answer in the one notation that answers are compared in."""
    text = plain(text)
    if len(re.findall(r"(?<!\\)\$", text)) % 2 == 0:  # else one is a currency sign
        text = re.sub(r"(?<!\\)\$", "", text)
    text = _bare(grouped(text.replace(r"\$", "$")))
    text = re.sub(r"\\[A-Za-z]+", lambda found: _COMMANDS.get(found[0], found[0]), text)
    return _bare(respelt(text, "answers"))


def _bare(text: str) -> str:
    """``text`` without what is around the whole of it, and without what leads up to it."""
    for _ in range(4):  # "**$5$.**" is wrapped three times
        before, text = text, respelt(text, "wrappers")
        if text == before:
            break
    return text


# Structure.

_TOKEN = re.compile(r"\\(?:begin|end)\{[^{}]*\}|\\[A-Za-z]+|\\.|.", re.DOTALL)
_OPENING, _CLOSING = (r"\{", "(", "[", "{"), (r"\}", ")", "]", "}")
_COLUMN = re.compile(r"\\begin\{[pbB]?matrix\}([^&]*)\\end\{[pbB]?matrix\}")

REGION = re.compile(r"[<>]|\\(?:le|ge|ne|cup|cap|setminus)(?![A-Za-z])")
"""What makes a text an inequality, or sets put together."""
UNWORKED = re.compile(
    r"\\(?:sum|prod|i*int|oint|lim|limsup|liminf|det|max|min|sup|inf|gcd|lcm)(?![a-z])|\{vmatrix\}"
)
"""What leaves a sum, an integral or the like to be worked out."""


def _tokens(text: str) -> Iterator[tuple[str, int, int]]:
    """The tokens of a text, each with where it starts and its depth in brackets."""
    depth = 0
    for match in _TOKEN.finditer(text):
        token = match.group()
        depth += token in _OPENING or token.startswith(r"\begin")
        depth -= token in _CLOSING or token.startswith(r"\end{")
        yield token, match.start(), depth


def split(text: str, *separators: str) -> list[str]:
    """``text`` cut at the separators, each a token, that stand outside all brackets."""
    pieces, start = [], 0
    for token, at, depth in _tokens(text):
        if depth == 0 and token in separators:
            pieces.append(text[start:at].strip())
            start = at + len(token)
    return [*pieces, text[start:].strip()]


def unwrap(text: str) -> tuple[str, str]:
    """The brackets around the whole of a text, "" if there are none, and what they hold.

    A column is a tuple.
    """
    if (column := _COLUMN.fullmatch(text)) and r"\begin" not in column[1]:
        return "()", column[1].replace(r"\\", ",")
    opening = next((each for each in _OPENING if text.startswith(each)), "")
    closing = next((each for each in _CLOSING if text.endswith(each)), "")
    inner = text[len(opening) : len(text) - len(closing)]
    if opening and closing and all(depth >= 0 for _, _, depth in _tokens(inner)):
        return opening + closing, inner.strip()
    return "", text
