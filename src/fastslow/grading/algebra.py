r"""Whether two expressions, relations or sets are equal, where spelling does not decide it.

latex2sympy reads them. Two expressions are the same if their values are, to thirty digits, at
several points, and sets if nothing is in only one of them; math-verify decides the rest (matrices,
equations, relations in several variables). What comes to numbers of many thousand digits, or leaves
a sum or an integral to be worked out, is refused. That is no guarantee against an answer that keeps
algebra busy: what grades a run's completions does so in workers with a limit of time and memory.
Nothing is evaluated as code. The module imports sympy, so import it only where it is needed.
"""

from __future__ import annotations

import logging
import math
import re
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from typing import Any

from latex2sympy2_extended import latex2sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig
from math_verify import verify
from sympy import (
    Eq,
    Expr,
    Float,
    I,
    Pow,
    Rational,
    Set,
    Union,
    exp,
    gamma,
    nan,
    oo,
    zoo,
)  # fmt: skip
from sympy.functions.combinatorial.factorials import CombinatorialFunction

from fastslow.grading.notation import REGION, UNWORKED, WORDS, split
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
_SPELLINGS = [(re.compile(pattern), replacement) for pattern, replacement in WORDS["spellings"]]
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
        return Union(*(_as_set(_parse(piece)) for piece in pieces))
    for pattern, replacement in _SPELLINGS:
        text = pattern.sub(replacement, text)
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
    if isinstance(expression, Rational):
        return math.log(2) * float(expression.p.bit_length() + expression.q.bit_length() - 1)
    if isinstance(expression, Float):
        return abs(math.log(abs(float(expression)) or 1.0))
    sizes = [_size(argument) for argument in getattr(expression, "args", ())]
    if isinstance(expression, Pow) and isinstance(expression.exp, Float | Rational):
        return sizes[0] * max(1.0, abs(float(expression.exp)))
    if isinstance(expression, Pow | CombinatorialFunction | exp | gamma):
        return max(sizes) * math.exp(min(max(sizes), 700))  # n! < n^n
    return sum(sizes) if sizes else 1.0


def _exact(thing: Any) -> Any:
    """``thing`` with its decimals as fractions, and with i, where it is no index, as the number."""
    if not hasattr(thing, "atoms"):
        return thing
    exact = {each: Rational(str(each)) for each in thing.atoms(Float)}
    exact |= {symbol: I for symbol in thing.free_symbols if symbol.name == "i"}
    return thing.xreplace(exact)


# Comparing.


def _is_rounded(text: str, constant: Any) -> bool:
    """Whether a text is a decimal, of six places at least, to which a constant rounds."""
    number = read_number(text)
    if not number or not number.decimals or not isinstance(constant, Expr):
        return False
    value = constant.evalf(DIGITS)
    return value.is_Float and number.rounds(Fraction(str(Rational(value))))


def _equal(found: Any, expected: Any) -> bool:
    sides, same = (found, expected), None
    expressions = [side for side in sides if isinstance(side, Expr)]
    sets = [side for side in sides if isinstance(side, Set)]
    if any(getattr(side, "is_Matrix", False) for side in sides):
        pass
    elif len(expressions) == 2:
        same = _same_values(found, expected)
    elif expressions or (not sets and found.free_symbols != expected.free_symbols):
        return False  # x > 2 is not y > 2
    elif not all(isinstance(side, Eq) for side in sides):
        same = _same_region(found, expected)
    return bool(verify(expected, found, timeout_seconds=None)) if same is None else same


def _same_values(found: Any, expected: Any) -> bool | None:
    """Whether two expressions have the same value wherever both have a real one; None: unknown."""
    variables = sorted(found.free_symbols | expected.free_symbols, key=str)
    if not variables:
        powers = found.atoms(Pow) | expected.atoms(Pow)
        if any(power.base.is_zero and power.exp.is_zero for power in powers):
            return False  # sympy takes 0^0 for 1
        a, b = found.doit(), expected.doit()
        if (a.is_Rational and b.is_Rational) or {a, b} & {oo, -oo, nan, zoo}:
            return bool(a == b and a not in (nan, zoo))
        return _close(a.evalf(DIGITS), b.evalf(DIGITS))
    known = None
    for start, step in POINTS:
        values = (Rational(start + step * place, 10**6) for place in range(len(variables)))
        point = dict(zip(variables, values, strict=True))
        a, b = (each.evalf(DIGITS, subs=point) for each in (found, expected))
        if not all(each.is_number and each.is_finite for each in (a, b)):
            continue
        if _close(a, b):
            known = True
        elif not known or (a.is_real and b.is_real):  # else a branch of a root or a logarithm
            return False
    return known


def _close(a: Any, b: Any) -> bool:
    """Whether two values agree to thirty digits. What cancels leaves some noise."""
    gap, scale = abs(a - b).evalf(), max(abs(a).evalf(), abs(b).evalf())
    return bool(gap <= max(1e-30 * scale, 1e-75))


def _same_region(found: Any, expected: Any) -> bool | None:
    """Whether two sets, or the solutions of inequalities in one variable, are the same."""
    a, b = _as_set(found), _as_set(expected)
    if a is None or b is None:
        return None
    return bool(a == b or ((a - b).is_empty and (b - a).is_empty))


def _as_set(thing: Any) -> Any:
    """The real numbers that a set or an inequality in one variable allows, else None."""
    if isinstance(thing, Set):
        return thing.doit()
    return thing.as_set() if len(thing.free_symbols) == 1 else None
