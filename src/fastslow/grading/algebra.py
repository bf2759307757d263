r"""Whether two expressions, relations or sets are equal, where spelling does not decide it.

latex2sympy reads them. Two expressions are the same if their values are, to forty digits, at
several points, and sets if nothing is in only one of them; math-verify decides the rest (matrices,
equations, relations in several variables). What comes to numbers of many thousand digits, or leaves
a sum or an integral to be worked out, is refused. That is no guarantee against an answer that keeps
algebra busy: what grades a run's completions does so in workers with a limit of time and memory.
Nothing is evaluated as code.
"""

from __future__ import annotations

import logging
import math
import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

from fastslow.grading.notation import split
from fastslow.grading.numbers import Number, read_number

LARGEST = 1e5
"""Natural logarithm of the largest number that is worked out: some 43,000 digits."""

DEEPEST = 20
"""Brackets within brackets that are read, and bars of absolute values."""

DIGITS = 40
POINTS = ((618034, 141421), (2236068, -173205), (-1414214, 261803))
"""Points, in millionths for the first variable and the step to the next, at which to compare."""

UNWORKED = re.compile(
    r"\\(?:sum|prod|i*int|oint|lim|limsup|liminf|det|max|min|sup|inf|gcd|lcm)(?![a-z])|\{vmatrix\}"
)
_SUM = re.compile(
    r"[(]?[0-9.,]+[)]?(?:(?:[-+/]|\\cdot ?|\\times ?|\\div ?)[-+]?[(]?[0-9.,]+[)]?|\([0-9.,]+\))+"
)
_FRACTION = re.compile(r"\\frac\{[0-9]+\}\{[0-9]+\}")
_LARGE = re.compile(
    r"binom[^A-Za-z]*[0-9]{5}|[0-9]{5}[^0-9A-Za-z+-]*!|(?:Gamma|gamma|zeta)\W*[0-9]{4}"
)
_UNREADABLE = re.compile(r"[0-9}] [0-9]|[0-9)\]}]'|[$\"?]|--|\\dots|[0-9] ?\\text\{ ?[A-Za-z] ?\}")
_FUNCTIONS = re.compile(
    r"(?<![A-Za-z\\])(arc(?:sin|cos|tan)|a?(?:sin|cos|tan)h?|cot|sec|csc|ln|log|exp)"
    r"(?![B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{2}|[a-z][aeiou])"
)
_REGION = re.compile(r"[<>]|\\(?:le|ge|ne|cup|cap|setminus)(?![A-Za-z])")
_DIFFERENTIAL = re.compile(r"\\i*int(?![a-z])|\{d\^?[0-9A-Za-z]?\}|\{d[A-Za-z]\}")
_COMMAND_OR_D = re.compile(r"(\\[A-Za-z]+(?:\{[^{}]*\})?|_\{[^{}]*\})|d(?= ?[A-Za-z])")
_SPELLINGS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\text\{(?:arc)?(sin|cos|tan|cot|sec|csc|ln|log|exp|sinh|cosh|tanh)\}", r"\\\1 "),
        (r"\\text\{ *\}", ""), (r"\\text\{([A-Za-z])\}", r"\1"),
        (r"\^(?:\{(?:T|\\top)\}|T(?![A-Za-z])|\\top)", r"^{\\tau_T}"),
        (r"([A-Za-z])('+)", lambda m: f"{m[1]}_{{{'p' * len(m[2])}}}"),
        (r"(?<!\\)\{,\}", ""),
    )
]  # fmt: skip


def difference(found: str, expected: str, *, plain: bool = False) -> str | None:
    """None if two expressions, relations or sets are equal, else a sentence that says why not.

    Args:
        found: what a model wrote, in the notation of ``normalise``.
        expected: the reference, in the same.
        plain: whether the reference is a plain number, so that an answer such as "2 + 3", which
            only repeats what was asked, does not count.
    """
    if UNWORKED.search(found) and not UNWORKED.search(expected):
        return "It is not worked out: give the value."
    if _LARGE.search(found):  # would be worked out while it is read
        return "It comes to a number too large to be worked out."
    if plain and read_number(found) is None and _SUM.fullmatch(_FRACTION.sub("1", found)):
        return "It is not worked out: give the one number that it comes to."
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
        if _equal(given, wanted):
            return None
        same_letters = found.casefold() == expected.casefold()
        return "Upper and lower case differ." if same_letters else "The two are not equal."
    except Exception:  # whatever algebra trips over in a text that a model wrote
        return "It cannot be read as a mathematical expression, or not be compared."


def stands_for(number: Number, text: str) -> bool:
    """Whether a decimal, of six places at least, is the constant in ``text``, rounded."""
    from sympy import Rational

    try:
        value = _parse(text) if number.decimals else None
        if value is None or value.free_symbols or _size(value) > LARGEST:
            return False
        return number.rounds(Fraction(str(Rational(value.evalf(DIGITS)))))
    except Exception:  # no expression, or no real one
        return False


def is_region(text: str) -> bool:
    """Whether a text is an inequality, or sets put together."""
    return _REGION.search(text) is not None


# Reading.


@lru_cache(maxsize=4096)
def _parse(text: str) -> Any:
    """The sympy object, not worked out, that a text stands for. Raises: whatever the parser does.

    Several inequalities or intervals, joined by commas or "or", are the union of what they allow.
    """
    from latex2sympy2_extended import latex2sympy
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig
    from sympy import Union

    pieces = split(text, ",", r"\cup")
    if is_region(text) and len(pieces) > 1:
        return Union(*(_as_set(_parse(piece)) for piece in pieces))
    for pattern, replacement in _SPELLINGS:
        text = pattern.sub(replacement, text)
    text = _FUNCTIONS.sub(r"\\\1 ", text)
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
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return depth == 0 and deepest <= DEEPEST and text.count("|") <= DEEPEST


def _size(expression: Any) -> float:
    """A rough upper bound of the logarithm of the numbers met when an expression is worked out."""
    from sympy import Float, Pow, Rational, exp, gamma
    from sympy.functions.combinatorial.factorials import CombinatorialFunction

    if isinstance(expression, Rational):
        return math.log(2) * float(expression.p.bit_length() + expression.q.bit_length() - 1)
    if isinstance(expression, Float):
        return abs(math.log(abs(float(expression)) or 1.0))
    sizes = [_size(argument) for argument in getattr(expression, "args", ())]
    if not sizes:
        return 1.0
    power = isinstance(expression, Pow)
    if power and isinstance(exponent := expression.args[1], Float | Rational):
        return sizes[0] * max(1.0, abs(float(exponent)))
    if power:
        return sizes[0] * _exp(sizes[1])
    if isinstance(expression, CombinatorialFunction | exp | gamma):
        return max(sizes) * _exp(max(sizes))  # n! < n^n
    return sum(sizes)


def _exp(size: float) -> float:
    return math.exp(size) if size < 700 else math.inf


# Comparing.


def _equal(found: Any, expected: Any) -> bool:
    from math_verify import verify
    from sympy import Eq, Expr, Set
    from sympy.logic.boolalg import Boolean

    found, expected, same = _exact(found), _exact(expected), None
    sides = (found, expected)
    if any(getattr(side, "is_Matrix", False) for side in sides):
        pass
    elif all(isinstance(side, Expr) for side in sides):
        same = _same_values(found, expected)
    elif all(isinstance(side, Set | Boolean) for side in sides):
        sets = any(isinstance(side, Set) for side in sides)
        if not sets and found.free_symbols != expected.free_symbols:
            return False  # x > 2 is not y > 2
        same = None if all(isinstance(side, Eq) for side in sides) else _same_region(*sides)
    elif any(isinstance(side, Expr) for side in sides):
        return False
    if same is not None:
        return same
    # Its timeouts need the main thread, and are the workers' business.
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that they are off
    return bool(verify(expected, found, timeout_seconds=None))


def _exact(thing: Any) -> Any:
    """``thing`` with its decimals as fractions, and with i, where it is no index, as the number."""
    from sympy import Float, I, Rational, Symbol

    if not hasattr(thing, "atoms"):
        return thing
    exact = {each: Rational(str(each)) for each in thing.atoms(Float)}
    i = Symbol("i", real=True)
    if i in thing.free_symbols:
        exact[i] = I
    return thing.xreplace(exact) if exact else thing


def _same_values(found: Any, expected: Any) -> bool | None:
    """Whether two expressions have the same value wherever both have a real one; None: unknown."""
    from sympy import Rational, nan, oo, zoo

    variables = sorted(found.free_symbols | expected.free_symbols, key=str)
    if not variables:
        a, b = (each.doit() for each in (found, expected))
        if any(each in (nan, zoo) for each in (a, b)):
            return False
        if (a.is_Rational and b.is_Rational) or any(each in (oo, -oo) for each in (a, b)):
            return bool(a == b)
        return _close(a.evalf(DIGITS), b.evalf(DIGITS))
    known = 0
    for start, step in POINTS:
        point = {
            variable: Rational(start + step * place, 10**6)
            for place, variable in enumerate(variables)
        }
        a, b = (each.evalf(DIGITS, subs=point) for each in (found, expected))
        if not (a.is_number and b.is_number and a.is_finite and b.is_finite):
            continue
        if not _close(a, b):
            if known and not (a.is_real and b.is_real):
                continue  # a branch of a root or a logarithm
            return False
        known += 1
    return True if known else None


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
    from sympy import Set

    if isinstance(thing, Set):
        return thing.doit()
    return thing.as_set() if len(thing.free_symbols) == 1 else None
