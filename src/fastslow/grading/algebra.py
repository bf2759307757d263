r"""Whether two expressions, relations or sets are equal, where spelling does not decide it.

latex2sympy reads them and math-verify compares them, behind guards of one sentence each:

- What is left to be worked out (a sum, an integral) is refused, unless the reference leaves it too.
- What comes to numbers of more than ``LARGEST`` is refused.
- What is no complete formula (numbers side by side, brackets that do not match) is refused.
- Two expressions are the same if their values agree to thirty digits at several points, so that
  tiny values differ and identities that hold for positive numbers only are found.
- Two statements are about the same variables: ``x > 2`` is not ``y > 2``.
- A decimal is what it says, and stands for another constant only if it is its rounding.

Nothing is evaluated as code. An answer can still keep algebra busy: what grades a run's completions
does so in workers with a limit of time and memory. The module imports sympy, which takes seconds,
so import it only where it is needed.
"""

from __future__ import annotations

import logging
import math
import re
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from typing import Any

import sympy
from latex2sympy2_extended import latex2sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig
from math_verify import verify
from sympy.functions.combinatorial.factorials import CombinatorialFunction

from fastslow.grading.notation import REGION, UNWORKED, respelt, split
from fastslow.grading.numbers import read_number

# It warns that its timeouts are off. They need the main thread, and are the workers' business.
logging.getLogger("math_verify").setLevel(logging.ERROR)

LARGEST = 1e5
"""Natural logarithm of the largest number that is worked out: some 43,000 digits."""

DEEPEST = 20
"""Brackets within brackets that are read, and bars of absolute values."""

DIGITS = 40
POINTS = ((618034, 141421), (2236068, -173205), (-1414214, 261803))
"""Points, in millionths for the first variable and the step to the next, at which to compare."""

_LARGE = re.compile(
    r"binom[^A-Za-z]*[0-9]{5}|[0-9]{5}[^0-9A-Za-z+-]*!|(?:Gamma|gamma|zeta)\W*[0-9]{4}"
)
_UNREADABLE = re.compile(r"[0-9}] [0-9]|[0-9)\]}]'|[$\"?]|--|\\dots|[0-9] ?\\text\{ ?[A-Za-z] ?\}")
_DIFFERENTIAL = re.compile(r"\\i*int(?![a-z])|\{d\^?[0-9A-Za-z]?\}|\{d[A-Za-z]\}")
_COMMAND_OR_D = re.compile(r"(\\[A-Za-z]+(?:\{[^{}]*\})?|_\{[^{}]*\})|d(?= ?[A-Za-z])")


def difference(found: str, expected: str) -> str | None:
    """None if two expressions, relations or sets are equal, else a sentence that says why not.

    Args:
        found: what a model wrote, in the notation of ``normalise``.
        expected: the reference, in the same.
    """
    if UNWORKED.search(found) and not UNWORKED.search(expected):
        return "It is not worked out: give the value."
    if _LARGE.search(found):  # would be worked out while it is read
        return "It comes to a number too large to be worked out."
    if _UNREADABLE.search(found) or not _legible(found):
        return "It cannot be read as mathematics: signs or numbers stand side by side, or brackets."
    try:
        wanted = _parse(expected)
    except Exception:
        return "It is not the expected text, and that can be compared as text only."
    try:
        given = _parse(found)
        if _size(given) > LARGEST:
            return "It comes to a number too large to be worked out."
        if _equal(_exact(given), _exact(wanted)):
            return None
        if _is_rounded(found, wanted) or _is_rounded(expected, given):
            return None
        same_letters = found.casefold() == expected.casefold()
        return "Upper and lower case differ." if same_letters else "The two are not equal."
    except Exception:  # whatever algebra trips over in a text that a model wrote
        return "It cannot be read as a mathematical expression, or not be compared."


# Reading.


@lru_cache(maxsize=4096)
def _parse(text: str) -> Any:
    """The sympy object, not worked out, that a text stands for. Raises: whatever the parser does.

    Several inequalities or intervals, joined by commas or "or", are the union of what they allow.
    """
    pieces = split(text, ",", r"\cup")
    if REGION.search(text) and len(pieces) > 1:
        return sympy.Union(*(_region(_parse(piece)) for piece in pieces))
    text = respelt(text, "formulas")
    if not _DIFFERENTIAL.search(text):  # else dx is d times x
        text = _COMMAND_OR_D.sub(lambda m: m[0] if m[1] else "d^{1}", text)
    return latex2sympy(
        text,
        is_real=True,
        normalization_config=None,
        conversion_config=ConversionConfig(lowercase_symbols=False),
    )


def _legible(text: str) -> bool:
    """Whether brackets match in number; else the parser may search for minutes for a way to pair
    them. Their kinds may differ, as in a union of intervals."""
    depths = [0, *accumulate((each in "([{") - (each in ")]}") for each in text)]
    return depths[-1] == 0 and max(*depths, text.count("|")) <= DEEPEST


def _size(expression: Any) -> float:
    """A rough upper bound of the logarithm of the numbers met when an expression is worked out."""
    if isinstance(expression, sympy.Rational):
        return math.log(2) * float(expression.p.bit_length() + expression.q.bit_length() - 1)
    if isinstance(expression, sympy.Float):
        return abs(math.log(abs(float(expression)) or 1.0))
    sizes = [_size(argument) for argument in getattr(expression, "args", ())]
    if isinstance(expression, sympy.Pow) and expression.exp.is_number and not expression.exp.args:
        return sizes[0] * max(1.0, abs(float(expression.exp)))
    if isinstance(expression, sympy.Pow | CombinatorialFunction | sympy.exp | sympy.gamma):
        return max(sizes) * math.exp(min(max(sizes), 700))  # n! < n^n
    return sum(sizes) if sizes else 1.0


def _exact(thing: Any) -> Any:
    """``thing`` with its decimals as fractions, and with i, where it is no index, as the number."""
    if not hasattr(thing, "atoms"):
        return thing
    exact = {each: sympy.Rational(str(each)) for each in thing.atoms(sympy.Float)}
    exact |= {symbol: sympy.I for symbol in thing.free_symbols if symbol.name == "i"}
    return thing.xreplace(exact)


# Comparing.


def _is_rounded(text: str, constant: Any) -> bool:
    """Whether a text is a decimal, of six places at least, to which a constant rounds."""
    number = read_number(text)
    if not number or not number.decimals or not isinstance(constant, sympy.Expr):
        return False
    value = constant.evalf(DIGITS)
    return value.is_Float and number.rounds(Fraction(str(sympy.Rational(value))))


def _equal(found: Any, expected: Any) -> bool:
    kinds = {_kind(found), _kind(expected)}
    if kinds == {"value", "statement"} or kinds == {"value", "set"}:
        return False
    if kinds == {"statement"} and found.free_symbols != expected.free_symbols:
        return False  # x > 2 is not y > 2
    same = None
    if kinds == {"value"}:
        same = _same_values(found, expected)
    elif "matrix" not in kinds:
        a, b = _region(found), _region(expected)
        if isinstance(a, sympy.Set) and isinstance(b, sympy.Set):
            same = a == b or ((a - b).is_empty and (b - a).is_empty)
    return bool(verify(expected, found, timeout_seconds=None) if same is None else same)


def _kind(thing: Any) -> str:
    if getattr(thing, "is_Matrix", False):
        return "matrix"
    if isinstance(thing, sympy.Expr):
        return "value"
    return "set" if isinstance(thing, sympy.Set) else "statement"


def _same_values(found: Any, expected: Any) -> bool | None:
    """Whether two expressions have the same value wherever both have a real one; None: unknown."""
    variables = sorted(found.free_symbols | expected.free_symbols, key=str)
    if not variables:
        powers = found.atoms(sympy.Pow) | expected.atoms(sympy.Pow)
        if any(power.base.is_zero and power.exp.is_zero for power in powers):
            return False  # sympy takes 0^0 for 1
        found, expected = found.doit(), expected.doit()
        if found.is_Rational and expected.is_Rational:
            return bool(found == expected)
    known = None
    for start, step in POINTS if variables else POINTS[:1]:
        values = (sympy.Rational(start + step * place, 10**6) for place in range(len(variables)))
        point = dict(zip(variables, values, strict=True))
        a, b = (each.evalf(DIGITS, subs=point) for each in (found, expected))
        if not all(each.is_number and each.is_finite for each in (a, b)):
            continue
        # What cancels leaves some noise.
        gap, scale = abs(a - b).evalf(), max(abs(a).evalf(), abs(b).evalf())
        if gap <= max(1e-30 * scale, 1e-75):
            known = True
        elif not known or (a.is_real and b.is_real):  # else a branch of a root or a logarithm
            return False
    return known


def _region(thing: Any) -> Any:
    """The real numbers that a set, or an inequality in one variable, allows; else the thing."""
    if isinstance(thing, sympy.Set):
        return thing.doit()
    inequality = len(thing.free_symbols) == 1 and not isinstance(thing, sympy.Expr | sympy.Eq)
    return thing.as_set() if inequality else thing
