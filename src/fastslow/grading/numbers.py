r"""Reading one number as people and models write it: "1,234", "-2 1/2", "\frac{3}{4}", "3e8".

Values are exact fractions, so that 0.5 and 1/2 are the same and 10^-20 and 0 are not. Every pattern
here takes time linear in the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from fastslow.grading.notation import grouped, plain

MAX_DIGITS = 1000
"""Characters of a number, and the size of an exponent of ten, at most; what is longer is none."""

_PLAIN = (
    r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[1-9][0-9]{0,2}(?:[ ][0-9]{3})+(?![0-9])|[0-9]+)"
    r"(?:\.[0-9]+)?|(?<![0-9.])\.[0-9]+"
)
_PART = rf"[-+]?(?:{_PLAIN})"
_LATEX_FRACTION = (
    rf"\\[dtc]?frac[ ]?(?:\{{[ ]?(?:{_PART})[ ]?\}}|[0-9])[ ]?(?:\{{[ ]?(?:{_PART})[ ]?\}}|[0-9])"
)
_POWER_OF_TEN = r"10[ ]?(?:\^|\*\*)[ ]?(?:\{[ ]?[-+]?[0-9]+[ ]?\}|\([-+]?[0-9]+\)|[-+]?[0-9]+)"
_TIMES = r"[ ]?(?:\\times|\\cdot|\*|x)[ ]{0,2}"

NUMBER = rf"""
    (?:
      (?:(?:[0-9]+[ ]?)?{_LATEX_FRACTION})                      # \frac{{3}}{{4}}, 2\frac{{1}}{{2}}
      |(?<![/0-9])[0-9]+[ ][0-9]+[ ]?/[ ]?[0-9]+(?![0-9/.])     # 2 1/2
      |(?<![/0-9])(?:{_PLAIN})[ ]?/[ ]?(?:{_PLAIN})(?![0-9/])   # 3/4
      |{_POWER_OF_TEN}                                          # 10^9
      |[0-9]+\.[0-9]*\\(?:overline|dot)[ ]?\{{?[0-9]+\}}?       # 0.1\overline{{6}}
      |(?:{_PLAIN})(?:[eE][-+]?[0-9]+|{_TIMES}{_POWER_OF_TEN})? # 1,234.5, 1e9, 3 \times 10^8
    )
"""
"""Pattern (verbose) of a number without its sign, in a ``plain`` text."""

_SIGNED = re.compile(rf"([-+]?)[ ]?({NUMBER})", re.VERBOSE)
_FRACTIONS = (
    re.compile(
        r"(?:(?P<whole>[0-9]+) ?)?\\[dtc]?frac ?(?:\{(?P<a>[^{}]*)\}|(?P<a1>[0-9]))"
        r" ?(?:\{(?P<b>[^{}]*)\}|(?P<b1>[0-9]))"
    ),
    re.compile(r"(?:(?P<whole>[0-9]+) (?=[0-9]+ ?/))?(?P<a>[0-9. ]+)/(?P<b>[0-9. ]+)"),
)
_SCIENTIFIC = re.compile(
    rf"(?:(?P<mantissa>[0-9.]+)(?:[eE]|{_TIMES}10(?:\^|\*\*))|10(?:\^|\*\*))(?P<exponent>[-+]?\d+)"
)
_REPEATING = re.compile(r"(?P<head>[0-9]+\.(?P<once>[0-9]*))\\(?:overline|dot)(?P<again>[0-9]+)")


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

    def rounds(self, exact: Fraction) -> bool:
        """Whether it is a decimal of six places and digits or more, to which ``exact`` rounds."""
        places = self.decimals or 0
        if places < 6 or abs(self.value) * 10**places < 100_000:
            return False
        return round(exact, places) == self.value


def read_number(text: str) -> Number | None:
    """The number that the whole of ``text`` is, or None. Raises nothing, whatever the text."""
    text = grouped(plain(text)).strip()
    match = _SIGNED.fullmatch(text) if len(text) <= MAX_DIGITS else None
    number = None if match is None else _unsigned(match[2].replace(",", ""))
    if match is None or number is None or match[1] != "-":
        return number
    return Number(-number.value, number.decimals, number.whole)


def same_number(found: Number, expected: Number) -> bool:
    """Whether two numbers are the same: exactly, or one is the other's decimal expansion.

    0.333333 stands for 1/3, since six significant digits leave no doubt, 0.33 does not. A decimal
    never stands for a whole number, nor for another decimal.
    """
    if found.value == expected.value:
        return True
    return any(
        exact.decimals is None and not exact.whole and rounded.rounds(exact.value)
        for rounded, exact in ((found, expected), (expected, found))
    )


def _unsigned(body: str) -> Number | None:
    for pattern in _FRACTIONS:
        if match := pattern.fullmatch(body):
            found = {key: (text or "").replace(" ", "") for key, text in match.groupdict().items()}
            above = Fraction(found["a"] or found["a1"])
            below = Fraction(found["b"] or found["b1"])
            return Number(Fraction(found["whole"] or 0) + above / below) if below else None
    body = re.sub(r"[ {}()]", "", body)
    if match := _SCIENTIFIC.fullmatch(body):
        exponent = int(match["exponent"])
        if abs(exponent) > MAX_DIGITS:
            return None
        value = Fraction(match["mantissa"] or 1) * Fraction(10) ** exponent
        return Number(value, whole=value.denominator == 1)
    if match := _REPEATING.fullmatch(body):
        period = Fraction(int(match["again"]), 10 ** len(match["again"]) - 1)
        return Number(Fraction(match["head"] + "0") + period / 10 ** len(match["once"]))
    _, point, places = body.partition(".")
    return Number(Fraction(body), len(places) if point else None, not point)
