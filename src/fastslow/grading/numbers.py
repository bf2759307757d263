r"""Reading one number as people and models write it: "1,234", "-2 1/2", "\frac{3}{4}", "3e8".

Values are exact fractions, so that 0.5 and 1/2 are the same and 10^-20 and 0 are not. Every pattern
here takes time linear in the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from fastslow.grading.notation import grouped, plain, respelt

MAX_DIGITS = 1000
"""Characters of a number, and the size of an exponent of ten, at most; what is longer is none."""

_PLAIN = (
    r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[1-9][0-9]{0,2}(?:[ ][0-9]{3})+(?![0-9])|[0-9]+)"
    r"(?:\.[0-9]+)?|(?<![0-9.])\.[0-9]+"
)
_PART = rf"(?:\{{[ ]?[-+]?(?:{_PLAIN})[ ]?\}}|[0-9])"
_TIMES = r"[ ]?(?:\\times|\\cdot|\*|x)[ ]{0,2}"
_POWER_OF_TEN = r"10[ ]?(?:\^|\*\*)[ ]?(?:\{[ ]?[-+]?[0-9]+[ ]?\}|\([-+]?[0-9]+\)|[-+]?[0-9]+)"

NUMBER = rf"""
    (?:
      (?:[0-9]+[ ]?)?\\[dtc]?frac[ ]?{_PART}[ ]?{_PART}         # \frac{{3}}{{4}}, 2\frac{{1}}{{2}}
      |(?<![/0-9])[0-9]+[ ][0-9]+[ ]?/[ ]?[0-9]+(?![0-9/.])     # 2 1/2
      |(?<![/0-9])(?:{_PLAIN})[ ]?/[ ]?(?:{_PLAIN})(?![0-9/])   # 3/4
      |{_POWER_OF_TEN}                                          # 10^9
      |[0-9]+\.[0-9]*\\(?:overline|dot)[ ]?\{{?[0-9]+\}}?       # 0.1\overline{{6}}
      |(?:{_PLAIN})(?:[eE][-+]?[0-9]+|{_TIMES}{_POWER_OF_TEN})? # 1,234.5, 1e9, 3 \times 10^8
    )
"""
"""Pattern (verbose) of a number without its sign, in a ``plain`` text."""

_SIGNED = re.compile(rf"([-+]?)[ ]?({NUMBER})", re.VERBOSE)


@dataclass(frozen=True)
class Number:
    """One number as it was written.

    Attributes:
        value: its exact value.
        decimals: digits after the point if it is written as a decimal with one, else None.
    """

    value: Fraction
    decimals: int | None = None

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
    if match is None:
        return None
    body = respelt(match[2], "numbers")
    whole, _, rest = body.rpartition("&")
    above, _, below = rest.partition("/")
    try:
        value = int(whole or 0) + _decimal(above) / _decimal(below or "1")
    except (ZeroDivisionError, OverflowError):
        return None
    places = re.fullmatch(r"[0-9]*\.([0-9]+)", body)
    return Number(-value if match[1] == "-" else value, len(places[1]) if places else None)


def same_number(found: Number, expected: Number) -> bool:
    """Whether two numbers are the same: exactly, or one is the other's decimal expansion.

    0.333333 stands for 1/3, since six significant digits leave no doubt, 0.33 does not. A decimal
    never stands for a whole number, nor for another decimal.
    """
    return found.value == expected.value or any(
        exact.decimals is None and rounded.rounds(exact.value)
        for rounded, exact in ((found, expected), (expected, found))
    )


def _decimal(text: str) -> Fraction:
    """The value of a decimal that may have an exponent, or digits that repeat."""
    once, _, again = text.partition("~")
    mantissa, _, exponent = once.lower().partition("e")
    if abs(int(exponent or 0)) > MAX_DIGITS:
        raise OverflowError
    value = Fraction(mantissa or 1) * Fraction(10) ** int(exponent or 0)
    if again:
        places = len(mantissa.partition(".")[2])
        value += Fraction(int(again), 10**places * (10 ** len(again) - 1))
    return value
