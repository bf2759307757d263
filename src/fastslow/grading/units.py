"""Parting a value from its unit: "5 cm", "$5", "60%", "1012_3", "18 eggs", "5 million".

A unit is really one if each of its words is in ``UNITS``, or if it names what is counted: words
that are neither mathematics nor a statement, the first of them a plural. Bare letters are a unit
only where they can hardly be algebra: "2 cm" and "18 eggs" have one, "2x", "2 m" and "2 xy" do not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from fastslow.grading.notation import NEGATION
from fastslow.grading.numbers import Number, read_number

UNITS = {
    name: names[0]
    for names in (
        ("mm", "millimeter", "millimetre"), ("cm", "centimeter", "centimetre"), ("dm",),
        ("m", "meter", "metre"), ("km", "kilometer", "kilometre"), ("in", "inch", "inche"),
        ("ft", "foot", "feet"), ("yd", "yard"), ("mi", "mile"), ("acre",), ("hectare",),
        ("mg", "milligram"), ("g", "gram"), ("kg", "kilogram"), ("t", "ton", "tonne"),
        ("lb", "pound"), ("oz", "ounce"), ("ms", "millisecond"), ("s", "sec", "second"),
        ("min", "minute"), ("h", "hr", "hour"), ("day",), ("week", "wk"), ("month",),
        ("yr", "year"), ("ml", "milliliter", "millilitre"),
        ("gal", "gallon"), ("dollar", "usd", "$", "us$", "buck"), ("cent", "\u00a2"),
        ("euro", "eur", "\u20ac"), ("gbp", "\u00a3"), ("yen", "\u00a5", "jpy"),
        ("rupee", "rs", "inr", "\u20b9"), ("degree", "deg"), ("rad", "radian"), ("unit",),
        ("hz", "hertz"), ("K", "kelvin"), ("N", "newton"), ("J", "joule"), ("kj", "kilojoule"),
        ("W", "watt"), ("kw", "kilowatt"), ("V", "volt"), ("A", "ampere", "amp"), ("ohm",),
        ("pa", "pascal"), ("C", "coulomb"), ("l", "L", "liter", "litre"),
        ("mol", "mole"), ("bit",), ("byte",), ("mi/h", "mph"), ("km/h", "kmh", "kph", "kmph"),
    )
    for name in names
}  # fmt: skip
"""Units, each with the name that it is compared by."""

_PARTS = "half third quarter,fourth fifth sixth seventh eighth ninth tenth".split()  # noqa: SIM905
SCALES = {
    "hundred": Fraction(100), "thousand": Fraction(1000), "million": Fraction(10**6),
    "billion": Fraction(10**9), "trillion": Fraction(10**12), "lakh": Fraction(10**5),
    "crore": Fraction(10**7), "ten": Fraction(10), "dozen": Fraction(12), "score": Fraction(20),
    "pair": Fraction(2), "halve": Fraction(1, 2), "hundredth": Fraction(1, 100),
    "thousandth": Fraction(1, 1000), "millionth": Fraction(1, 10**6),
    **{name: Fraction(1, n) for n, names in enumerate(_PARTS, 2) for name in names.split(",")},
}  # fmt: skip
"""Words, in the singular, that make another number of the number before them."""

_NO_UNIT = frozenset(
    """to plus minus times over by choose divided multiplied mod modulo root factorial than less if
    more most least fewer when where for either both at about around between squared cubed power or
    and is are percent sin cos tan cot sec csc arcsin arccos arctan log ln exp sqrt lim max min gcd
    lcm det pi doubled tripled halved negative positive below above under""".split()  # noqa: SIM905
)
"""Words that make another number, or another statement, of the number before them."""

_PLURALS = frozenset(
    "people men women children mice geese teeth fish sheep each total altogether".split()  # noqa: SIM905
)
_CURRENCY = re.compile(
    r"([-+]?)(us\$|usd|eur|gbp|rs\.?|[$\u20ac\u00a3\u00a5\u20b9]) ?(?=[-+\d.])", re.IGNORECASE
)
_WORD = r"(?:\\text\{(?:[^{}]|\{[^{}]*\})*\}|[A-Za-z][A-Za-z.'-]*|[$\u20ac\u00a2\"])"
_TAIL = re.compile(rf"(?<=[0-9)}}\]])( ?){_WORD}(?:[ ]|/|\\cdot|{_WORD}|\^\{{?-?[1-3]\}}?)*$")
_BASE = re.compile(r"(?<=[0-9A-F])_\{?([0-9]{1,2})\}?$")
_FACTOR = re.compile(r"(/|per )? ?(?:(square|sq|cubic|cu) )?([a-zA-Z$\u20ac\u00a2\\]+)(\^-?[1-3])?")
_POWERS = {"square": "^2", "sq": "^2", "cubic": "^3", "cu": "^3", "": ""}


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
        value = number.value * self.scale
        return Number(value, whole=value.denominator == 1)


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
    explicit = "\\text" in tail
    words = tail.replace("\\text{", " ").replace("}", " ").replace("\\cdot", " ").replace(".", " ")
    words = words.replace("{", "").replace('"', "inch")
    scale = Fraction(1)
    while (first := words.split(maxsplit=1)) and (by := SCALES.get(_singular(first[0], SCALES))):
        scale, words = scale * by, first[1] if len(first) > 1 else ""
    if scale != 1 and read_number(value) is None:
        return Quantity(text)
    if not words.strip():
        return Quantity(value, scale=scale)
    certain = explicit or bool(re.search("[A-Za-z]{2}", words) or (match[1] and "/" in words))
    if unit := _known(words):
        return Quantity(value, unit, scale=scale, certain=certain)
    if (explicit or match[1] or scale != 1) and _counted(words, value):
        return Quantity(value, _singular(" ".join(words.lower().split()), ()), scale=scale)
    return Quantity(text)


def _singular(word: str, known: object) -> str:
    word = word.lower() if len(word) > 1 else word
    for ending in ("", "s", "es"):
        base = word.removesuffix(ending)
        if isinstance(known, dict) and base in known and (not ending or len(base) > 1):
            return base
    return word.removesuffix("s")


def _known(words: str) -> str:
    """The name that a unit is compared by, "" if a word of it is no unit."""
    words = re.sub(r"[A-Za-z]{2,}", lambda word: word.group().lower(), words.strip())
    words = re.sub(r" squared\b| ?\^2", "^2", re.sub(r" cubed\b| ?\^3", "^3", words))
    name, rest = "", words
    while rest:
        if not (match := _FACTOR.match(rest)):
            return ""
        per, power, unit, raised = match.groups()
        unit = UNITS.get(_singular(unit, UNITS), "")
        if not unit:
            return ""
        raised = _POWERS[power or ""] or raised or ""
        per = per or "-" in raised
        name += "/" if per else "\u00b7" if name else ""
        name += unit + raised.replace("-", "").replace("^1", "")
        rest = rest[match.end() :].lstrip()
    return name


def _counted(words: str, value: str) -> bool:
    """Whether words name what is counted: "eggs", "bags of rice", "years old"; "egg" of one."""
    found = re.findall(r"[a-z'-]+", words.lower())
    if re.search(r"[^A-Za-z' -]", words) or not found or len(found[0]) < 3:
        return False
    if set(found) & _NO_UNIT or NEGATION.search(words):
        return False
    plural = found[0] in _PLURALS or (found[0].endswith("s") and len(found[0]) > 3)
    return plural or value == "1" or _singular(found[0], UNITS) in UNITS
