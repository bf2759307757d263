"""Parting a value from its unit: "5 cm", "$5", "60%", "1012_3", "18 eggs", "5 million".

A unit is really one if each of its words is in ``UNITS``, or if it names what is counted: words
that are neither mathematics nor a statement, the first of them a plural. Bare letters are a unit
only where they can hardly be algebra: "2 cm" and "18 eggs" have one, "2x", "2 m" and "2 xy" do not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from fastslow.grading.notation import NEGATION, WORDS, respelt
from fastslow.grading.numbers import Number, read_number


def _forms(table: dict[str, str]) -> dict[str, str]:
    """Each name in a table, and its plural, with the key that it stands under."""
    names = [(name, key) for key, row in table.items() for name in (key, *row.split())]
    plurals = {name + end: key for name, key in names if len(name) > 1 for end in ("s", "es")}
    return plurals | dict(names)


UNITS = _forms(WORDS["units"])
"""Units, singular and plural, each with the name that it is compared by."""

SCALES = {word: Fraction(key) for word, key in _forms(WORDS["scales"]).items()}
"""Words that make another number of the number before them."""

_PLURALS, _NEVER = (frozenset(WORDS["counted"][key].split()) for key in ("plurals", "never"))
_CURRENCY = re.compile(
    r"([-+]?)(us\$|usd|eur|gbp|rs\.?|[$\u20ac\u00a3\u00a5\u20b9]) ?(?=[-+\d.])", re.IGNORECASE
)
_WORD = r"(?:\\text\{(?:[^{}]|\{[^{}]*\})*\}|[A-Za-z][A-Za-z.'-]*|[$\u20ac\u00a2\"])"
_TAIL = re.compile(rf"(?<=[0-9)}}\]])( ?){_WORD}(?:[ ]|/|\\cdot|{_WORD}|\^\{{?-?[1-3]\}}?)*$")
_BASE = re.compile(r"(?<=[0-9A-F])_\{?([0-9]{1,2})\}?$")
_CLEAR = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2}|\"")
_FACTOR = re.compile(r"(/?)(.*?)((?:\^[23])?)")


@dataclass(frozen=True)
class Quantity:
    """A value, still as text, with what stands around it.

    Attributes:
        value: the text without unit, currency and percent sign.
        unit: the name that its unit is compared by, or "". The base of a numeral is one too.
        percent: whether a percent sign stands behind it.
        scale: what the value is to be multiplied by, as in "5 million".
        certain: whether its unit can be nothing else, so that it may as well be left out.
    """

    value: str
    unit: str = ""
    percent: bool = False
    scale: Fraction = Fraction(1)
    certain: bool = True

    def number(self) -> Number | None:
        """The number that it is, or None."""
        number = read_number(self.value)
        if number is None or self.scale == 1:
            return number
        return Number(number.value * self.scale)


def read_quantity(text: str) -> Quantity:
    """Part a value from its unit; ``text`` is as ``notation.normalise`` leaves it."""
    if text.endswith("%"):
        return Quantity(text[:-1].strip(), percent=True)
    if match := _CURRENCY.match(text):
        return Quantity(match[1] + text[match.end() :], UNITS[match[2].lower().rstrip(".")])
    if match := _BASE.search(text):
        return Quantity(text[: match.start()], f"base {match[1]}")
    if not (match := _TAIL.search(text)):
        return Quantity(text)
    value, tail = text[: match.start()], match.group()
    explicit, spaced = "\\text" in tail, tail.startswith(" ")
    words = respelt(tail, "units")
    scale = Fraction(1)
    while (word := re.match(r" *([A-Za-z]+) *", words)) and word[1].lower() in SCALES:
        scale, words = scale * SCALES[word[1].lower()], words[word.end() :]
    if scale != 1 and read_number(value) is None:
        return Quantity(text)
    unit = _unit(words)
    if unit is not None:
        clear = not words or _CLEAR.search(tail) or (spaced and "/" in tail)
        return Quantity(value, unit, scale=scale, certain=explicit or bool(clear))
    if (explicit or spaced or scale != 1) and _counted(words, value):
        return Quantity(value, " ".join(words.lower().split()).removesuffix("s"), scale=scale)
    return Quantity(text)


def _unit(words: str) -> str | None:
    """The name that a unit is compared by, None if a word of it is no unit."""
    name = ""
    for word in words.replace("/", " /").split():
        factor = _FACTOR.fullmatch(word)
        unit = factor and UNITS.get(factor[2] if len(factor[2]) == 1 else factor[2].lower())
        if not factor or not unit:
            return None
        name += (factor[1] or ("\u00b7" if name else "")) + unit + factor[3]
    return name


def _counted(words: str, value: str) -> bool:
    """Whether words name what is counted: "eggs", "bags of rice", "years old"; "egg" of one."""
    found = re.findall(r"[a-z'-]+", words.lower())
    if re.search(r"[^A-Za-z' -]", words) or not found or len(found[0]) < 3:
        return False
    if _NEVER & set(found) or NEGATION.search(words):
        return False
    plural = found[0] in _PLURALS or (found[0].endswith("s") and len(found[0]) > 3)
    return plural or value == "1" or found[0] in UNITS
