"""Reading one number as people and models write it: "1,234", "-2 1/2", "\\frac{3}{4}", "$5", "60%".

Values are exact fractions, so that 0.5 and 1/2 are the same and 10^-20 and 0 are not. Every pattern
here takes time linear in the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_DIGITS = 1000
"""Characters of a number, and the size of an exponent of ten, at most; what is longer is none."""

_UNICODE = str.maketrans(
    {
        # Signs for minus, and what stands in numbers as a space or as nothing.
        **dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\uff0d\ufe63", "-"),
        **dict.fromkeys("\u00a0\u2007\u2009\u202f", " "),
        **dict.fromkeys("\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u202a\u202b\u202c\u202d\u202e"),
        **dict.fromkeys("\u2066\u2067\u2068\u2069\u061c"),
        "\u2044": "/", "\uff0c": ",", "\uff0e": ".", "\uff05": "%", "\u00d7": "\\times ",
        **{chr(0xFF10 + digit): str(digit) for digit in range(10)},
        "\u00bd": " 1/2", "\u2153": " 1/3", "\u2154": " 2/3", "\u00bc": " 1/4", "\u00be": " 3/4",
        "\u2155": " 1/5", "\u2159": " 1/6", "\u215b": " 1/8",
        **{mark: f"^{digit}" for digit, mark in enumerate("\u2070\u00b9\u00b2\u00b3\u2074\u2075"
                                                          "\u2076\u2077\u2078\u2079")},
    }
)  # fmt: skip

_PLAIN = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|(?<![0-9.])\.[0-9]+"
_PART = rf"[-+]?(?:{_PLAIN})"
_LATEX_FRACTION = (
    rf"\\[dtc]?frac[ ]?(?:\{{[ ]?(?:{_PART})[ ]?\}}|[0-9])[ ]?(?:\{{[ ]?(?:{_PART})[ ]?\}}|[0-9])"
)
_POWER_OF_TEN = r"10[ ]?\^[ ]?(?:\{[ ]?[-+]?[0-9]+[ ]?\}|\([-+]?[0-9]+\)|[-+]?[0-9]+)"
_TIMES = r"[ ]?(?:\\times|\\cdot|\*|x)[ ]{0,2}"

NUMBER = rf"""
    (?:
      (?:(?:[0-9]+[ ]?)?{_LATEX_FRACTION})                      # \frac{{3}}{{4}}, 2\frac{{1}}{{2}}
      |(?<![/0-9])[0-9]+[ ][0-9]+[ ]?/[ ]?[0-9]+(?![0-9/.])     # 2 1/2
      |(?<![/0-9])(?:{_PLAIN})[ ]?/[ ]?(?:{_PLAIN})(?![0-9/])   # 3/4
      |{_POWER_OF_TEN}                                          # 10^9
      |(?:{_PLAIN})(?:[eE][-+]?[0-9]+|{_TIMES}{_POWER_OF_TEN})? # 1,234.5, 1e9, 3 \times 10^8
    )
"""
"""Pattern (verbose) of a number without its sign, in a text that ``standard`` has gone over."""

_WHOLE = re.compile(rf"([-+]?)[ ]?({NUMBER})", re.VERBOSE)
_FRACTIONS = (
    re.compile(
        r"(?:(?P<whole>[0-9]+)[ ]?)?\\[dtc]?frac[ ]?(?:\{(?P<a>[^{}]*)\}|(?P<a1>[0-9]))"
        r"[ ]?(?:\{(?P<b>[^{}]*)\}|(?P<b1>[0-9]))"
    ),
    re.compile(r"(?:(?P<whole>[0-9]+)[ ])?(?P<a>[0-9.]+)[ ]?/[ ]?(?P<b>[0-9.]+)"),
)
_SCIENTIFIC = re.compile(
    rf"(?:(?P<mantissa>[0-9.]+)(?:[eE]|{_TIMES}10\^)|10\^)(?P<exponent>[-+]?\d+)"
)


def standard(text: str) -> str:
    """``text`` with the Unicode and LaTeX spellings of signs, spaces and separators made ASCII.

    Marks that take no room (zero width, writing direction) are dropped.
    """
    text = text.translate(_UNICODE)
    text = re.sub(r"\{,\}|(?<=[0-9])\\[,!](?=[0-9]{3}(?![0-9]))", ",", text)
    text = re.sub(r"(?<=[0-9]),\\!(?=[0-9])", ",", text)
    return text.replace("\\%", "%").replace("\\$", "$")


@dataclass(frozen=True)
class Number:
    """One number as it was written.

    Attributes:
        value: its exact value.
        decimals: digits after the point if it is written as a decimal with one, else None.
        whole: whether it is written as a whole number.
    """

    value: Fraction
    decimals: int | None = None
    whole: bool = False

    @property
    def digits(self) -> int:
        """Significant digits of a number that is written as a decimal with a point, else 0."""
        if self.decimals is None:
            return 0
        return len(str(abs(self.value.numerator) * 10**self.decimals // self.value.denominator))


def read_number(text: str) -> Number | None:
    """The number that the whole of ``text`` is, or None. Raises nothing, whatever the text."""
    text = standard(text).strip()
    match = _WHOLE.fullmatch(text) if len(text) <= MAX_DIGITS else None
    if match is None:
        return None
    sign, body = match.groups()
    number = _read(body.replace(",", ""))
    if number is None or sign != "-":
        return number
    return Number(-number.value, number.decimals, number.whole)


def same_number(found: Number, expected: Number) -> bool:
    """Whether two numbers are the same: exactly, or one is the other's decimal expansion.

    0.333333 stands for 1/3, since six significant digits leave no doubt, 0.33 does not. A decimal
    never stands for a whole number, nor for another decimal.
    """
    if found.value == expected.value:
        return True
    for rounded, exact in ((found, expected), (expected, found)):
        if rounded.decimals is not None and exact.decimals is None and not exact.whole:
            return rounded.digits >= 6 and round(exact.value, rounded.decimals) == rounded.value
    return False


def _read(body: str) -> Number | None:
    for pattern in _FRACTIONS:
        if match := pattern.fullmatch(body):
            parts = match.groupdict()
            above = Fraction(parts["a"] or parts["a1"])
            below = Fraction(parts["b"] or parts["b1"])
            return Number(Fraction(parts["whole"] or 0) + above / below) if below else None
    body = re.sub(r"[ {}()]", "", body)
    if match := _SCIENTIFIC.fullmatch(body):
        exponent = int(match["exponent"])
        if abs(exponent) > MAX_DIGITS:
            return None
        value = Fraction(match["mantissa"] or 1) * Fraction(10) ** exponent
        return Number(value, whole=value.denominator == 1)
    _, point, places = body.partition(".")
    return Number(Fraction(body), len(places) if point else None, not point)


UNITS = {
    name: names[0]
    for names in (
        ("mm", "millimeter", "millimetre"), ("cm", "centimeter", "centimetre"),
        ("m", "meter", "metre"), ("km", "kilometer", "kilometre"), ("in", "inch", "inche"),
        ("ft", "foot", "feet"), ("yd", "yard"), ("mi", "mile"), ("mg", "milligram"),
        ("g", "gram"), ("kg", "kilogram"), ("lb", "pound"), ("oz", "ounce"),
        ("s", "sec", "second"), ("min", "minute"), ("h", "hr", "hour"), ("day",), ("week",),
        ("month",), ("yr", "year"), ("l", "liter", "litre"), ("ml", "milliliter", "millilitre"),
        ("km/h", "kmh", "kph"), ("mph",), ("m/s",), ("cent",), ("dollar", "usd", "$"),
        ("euro", "eur", "\u20ac"), ("gbp", "\u00a3"), ("degree", "deg"), ("rad", "radian"),
        ("unit",), ("hz",), ("kelvin",),
    )
    for name in names
}  # fmt: skip
"""Units, each with the name that it is compared by. Any other word is compared as it stands."""

_NO_UNIT = frozenset(
    """hundred thousand million billion trillion dozen score pair half third quarter percent or and
    to plus minus times over by squared cubed mod modulo root factorial is are not no but than more
    less if when where for either neither""".split()  # noqa: SIM905
)
"""Words that make another number, or another statement, of the number before them."""

_TEXT_UNIT = re.compile(r" ?\\text\{([^{}]*)\}(\^\{?[23]\}?)?$")
_WORD_UNIT = re.compile(r"(?<=[0-9}])( ?)((?:[A-Za-z]+[ /-]?){1,4}(?:\^\{?[23]\}?)?)$")
_BASE = re.compile(r"(?<=[0-9])_\{?([0-9]{1,2})\}?$")


@dataclass(frozen=True)
class Quantity:
    """A value, still as text, with what stands around it.

    Attributes:
        value: the text without unit, currency and percent sign.
        unit: the name that its unit is compared by, or "". The base of a numeral is one too.
        percent: whether a percent sign stands behind it.
        optional: whether the unit may as well be left out.
    """

    value: str
    unit: str = ""
    percent: bool = False
    optional: bool = True


def read_quantity(text: str) -> Quantity:
    r"""Part a value from its unit: "5 cm", "5\text{ cm}^2", "$5", "60%", "1012_3", "18 eggs".

    ``text`` is in the spelling of ``equivalence``. Bare letters are a unit only where they can
    hardly be algebra: "2 cm" and "18 eggs" have one, "2x" and "2 xy" have none.
    """
    text = text.strip()
    if text.endswith("%"):
        return Quantity(text[:-1].strip(), percent=True)
    for mark in ("$", "\u20ac", "\u00a3"):
        if text.lstrip("-").startswith(mark):
            return Quantity(text.replace(mark, "", 1).strip(), UNITS[mark])
    if match := _BASE.search(text):
        return Quantity(text[: match.start()], f"base {match[1]}")
    if match := _TEXT_UNIT.search(text):
        value, words, bare = text[: match.start()].strip(), match[1] + (match[2] or ""), False
    elif match := _WORD_UNIT.search(text):
        value, words, bare = text[: match.start()].strip(), match[2], True
    else:
        return Quantity(text)
    unit, known = _unit(words)
    is_number = read_number(value) is not None
    if not value or not unit or (bare and not is_number):
        return Quantity(text)
    if not bare:
        return Quantity(value, unit, optional=known or is_number)
    if len(words.strip()) > 2 or (known and (len(words) == 2 or match[1])):
        return Quantity(value, unit, optional=known and len(words) > 1)
    return Quantity(text)


def _unit(words: str) -> tuple[str, bool]:
    """The name that a unit is compared by, "" if the words are no unit; whether it is known."""
    words = re.sub(r"[{}]", "", words).strip().lower().rstrip(".")
    if set(re.findall(r"[a-z]+", words)) & _NO_UNIT:
        return "", False
    base = re.sub(r"^(?:square|sq|cubic) |\^[23]$", "", words)
    power = "^3" if words.startswith("cubic ") or words.endswith("^3") else "^2"
    suffix = power if base != words else ""
    for name in (base, base.removesuffix("s"), base.removesuffix("es")):
        if name in UNITS:
            return UNITS[name] + suffix, True
    return base.removesuffix("s") + suffix, False
