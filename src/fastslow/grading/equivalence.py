r"""Whether two written mathematical answers are the same, and if not, where they differ.

Both are brought into one notation. What spelling decides (numbers, units, percent, words, names,
lists, brackets) is decided here; only single expressions, equations and regions go to ``algebra``.
Brackets matter: (1, 2) is neither [1, 2] nor {1, 2}. The parts of a set, or of a list without
brackets, may come in any order, the parts of a tuple may not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from fastslow.grading.notation import NEGATION, REGION, UNWORKED, normalise, split, unwrap
from fastslow.grading.numbers import read_number, same_number
from fastslow.grading.units import Quantity, read_quantity
from fastslow.text import excerpt

LIMIT = 400
"""Characters of an answer that are read, at least; never less than twice the reference's."""

_APPROXIMATELY = re.compile(r"\\(?:approx|sim)(?![A-Za-z])")
_NAME = re.compile(r"(?:[A-Za-z]|\\[a-z]+ ?[A-Za-z]?|\\text\{[^{}]*\})[^=]*")
_BARE_NAME = re.compile(r"\\?[A-Za-z]+(?:_\w|_\{[^{}]*\})?'*(?:\([A-Za-z, ]*\))?")
_SET = ("{}", r"\{\}")
_MEMBER = re.compile(r"\\in(?![A-Za-z])")
_DOMAIN = re.compile(r"[a-z](?:,[a-z])*\\in ?\\mathbb\{[A-Z]\}(?:_\S+|\^\S+)?")
_PLUS_MINUS = re.compile(r"\\pm(?![a-z]) ?")
_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_WORDS = re.compile(r"[^\W\d_]{2,}(?:[ '-]+[^\W\d_]+)*|[^\W\d_](?:[ '-]+[^\W\d_]{2,})+")
_TERM = r"[-+(]*(?:[0-9.,]+|\\frac\{[0-9]+\}\{[0-9]+\})\)*"
_SUM = re.compile(rf"{_TERM}(?:(?:[-+/]|\\(?:cdot|times|div) ?|(?=\()){_TERM})+")
_NUMBERS_DIFFER = "The two numbers are not the same."


def mismatch(found: str, expected: str, *, percentage: bool = False) -> str | None:
    """None if two answers are the same, else a sentence that says where they differ.

    Args:
        found: the answer to be graded.
        expected: the reference answer.
        percentage: whether a percentage was asked for, so that "50%" may stand for 50. Where the
            reference has a percent sign, 50 may stand for "50%" in any case.
    """
    limit = max(LIMIT, 2 * len(expected))
    if not found.strip():
        return "The answer is empty."
    if len(found) > limit:
        return (
            f"The answer is longer than {limit} characters and was not read: give the value only."
        )
    if (a := read_number(found)) and (b := read_number(expected)):  # as most are; this is quick
        return None if same_number(a, b) else _NUMBERS_DIFFER
    try:
        got, want = normalise(found), normalise(expected)
        remark = _compare(got, want)
        if remark and percentage and "%" in got:
            return _compare(got.replace("%", ""), want.replace("%", ""))
        return remark
    except RecursionError:
        return "Its brackets are nested too deeply."


def is_number(text: str) -> bool:
    """Whether a written answer is one number, with or without a unit or a percent sign."""
    return read_quantity(normalise(text)).number() is not None


def _compare(found: str, expected: str) -> str | None:
    """Compare two answers in the notation of ``normalise``."""
    if found == expected:
        return None
    if not found:
        return "There is nothing to read in the answer."
    got, want = _list(found), _list(expected)
    if len(got) == len(want) == 1:
        return _statement(got[0], want[0])
    if REGION.search(found) and REGION.search(expected):
        return _unordered(got, want) and _difference(found, expected)
    if len(want) == 1 and (brackets := unwrap(expected)[0]):
        return f"It is a list without brackets; expected is {_kind(brackets)}."
    return _unordered(got, want)


def _difference(found: str, expected: str) -> str | None:
    from fastslow.grading import algebra  # imports sympy, which takes seconds

    return algebra.difference(found, expected)


# Lists, sets and tuples.


def _list(text: str) -> list[str]:
    r"""The parts of a list without brackets, or of a set; both values of "a \pm b"."""
    if read_quantity(text).number() is not None:  # 1,234
        return [text]
    brackets, inner = unwrap(_sides(text)[-1] if _name(text) else text)  # S = {1, 2}
    if brackets in _SET:
        return _list(inner)
    parts = [part for part in split(text, ",", ";") if part] or [text]
    if len(parts) > 1:  # "k\pi, k in Z": the domain of a parameter is none of the answer
        parts = [part for part in parts if not _DOMAIN.fullmatch(part)] or parts
    return [value for part in parts for value in _signs(part)]


def _signs(text: str) -> list[str]:
    if len(_PLUS_MINUS.findall(text)) != 1 or r"\mp" in text:
        return [text]
    plus, minus = (_PLUS_MINUS.sub(sign, text) for sign in "+-")
    return [re.sub(r"(^|=)\+", r"\1", plus), minus]


def _unordered(found: Sequence[str], expected: Sequence[str]) -> str | None:
    names = {_name(part) for part in expected}
    if len(names) == len(expected) > 1 and not any(_name(part) for part in found):
        return _ordered(found, expected)  # "5, 6" for "a = 5, b = 6"
    if len(found) != len(expected):
        return f"It has {len(found)} part(s); expected are {len(expected)}."
    left = list(found)
    for part in expected:
        match = next((item for item in left if _compare(item, part) is None), None)
        if match is None:
            return f"{excerpt(part, 60)} is not among its parts."
        left.remove(match)
    return None


def _ordered(found: Sequence[str], expected: Sequence[str]) -> str | None:
    if len(found) != len(expected):
        return f"It has {len(found)} part(s); expected are {len(expected)}."
    for number, (a, b) in enumerate(zip(found, expected, strict=True), start=1):
        if (remark := _compare(a, b)) is not None:
            return f"Part {number}, {excerpt(a, 60)}, is not {excerpt(b, 60)}: {remark}"
    return None


def _kind(brackets: str) -> str:
    return f"in brackets {brackets}" if brackets else "a list without brackets or a single value"


# Statements: "x = 5", "2 + 3 = 5", "x in [1, 2]", "22/7 = 3.14 or so".


def _name(text: str) -> str:
    """What stands before the only equals sign or "in", if it holds a letter, else ""."""
    sides = _sides(text)
    return sides[0] if len(sides) > 1 and _is_name(sides[0]) else ""


def _sides(text: str) -> list[str]:
    if REGION.search(re.sub(r"\\(?:setminus|cup|cap)", "", text)):
        return [text]
    sides = split(_MEMBER.sub("=", text), "=")
    if len(sides) > 1 and _BARE_NAME.fullmatch(sides[-1]) and not _BARE_NAME.fullmatch(sides[0]):
        sides.reverse()  # 5 = x
    return sides


def _is_name(side: str) -> bool:
    """Whether a side has a letter that no number has: a variable, a function or a word."""
    return bool(_NAME.search(side)) and not NEGATION.search(side)


def _statement(found: str, expected: str) -> str | None:
    found, expected = _unrounded(found), _unrounded(expected)
    if not found or not expected:
        return "What follows its sign of approximation is no rounding of what is before it."
    sides, wanted = _sides(found), _sides(expected)
    if len(wanted) > 1 and not _is_name(wanted[0]):
        return _difference(found, expected)
    if len(sides) > 1 and len(wanted) > 1 and sides[0] != wanted[0]:
        remark = _difference(found, expected)
        names = excerpt(sides[0], 40), excerpt(wanted[0], 40)
        return remark and f"It says what {names[0]} is; expected is {names[1]}. {remark}"
    if _is_sum(read_quantity(sides[-1]).value) and is_number(wanted[-1]):
        return "It is not worked out: give the one number that it comes to."
    if len(sides) > 1 and _is_name(sides[0]):
        del sides[0]
    worked = [side for side in sides[:-1] if not UNWORKED.search(side)]
    remarks = (_value(side, wanted[-1]) for side in (*worked, sides[-1]))
    return next((remark for remark in remarks if remark is not None), None)


def _is_sum(text: str) -> bool:
    """Whether numbers are left to be added or multiplied; one in brackets is a number."""
    return bool(_SUM.fullmatch(text)) and not unwrap(text)[0] and read_number(text) is None


def _unrounded(text: str) -> str:
    """What is before the signs of approximation, "" if what follows is no rounding of it."""
    value, *rounded = (side.strip() for side in _APPROXIMATELY.split(text))
    if _BARE_NAME.fullmatch(value) and value not in (r"\pi", "e"):
        return "=".join((value, *rounded))
    exact = read_quantity(value).number()
    for number in (read_quantity(side).number() for side in rounded):
        if number is None or (exact and round(exact.value, number.decimals or 0) != number.value):
            return ""
    return value


# Single values, and what is in brackets.


def _value(found: str, expected: str) -> str | None:
    if found == expected:
        return None
    if REGION.search(found) or REGION.search(expected):
        return _difference(found, expected)
    (brackets, inner), (wanted, expected_inner) = unwrap(found), unwrap(expected)
    got, want = split(inner, ",", ";"), split(expected_inner, ",", ";")
    if brackets in ("()", *_SET) and len(got) == 1:  # (5) and {5} are 5
        return _compare(inner, expected)
    if wanted in ("()", *_SET) and len(want) == 1:
        return _compare(found, expected_inner)
    if not (brackets and len(got) > 1) and not (wanted and len(want) > 1):
        return _quantity(found, expected)
    if brackets == wanted:
        return _ordered(got, want)
    if r"\begin" in found and r"\begin" in expected:
        return _difference(found, expected)
    return f"It is {_kind(brackets)}; expected is {_kind(wanted)}."


def _quantity(found: str, expected: str) -> str | None:
    got, want = read_quantity(found), read_quantity(expected)
    if got.unit != want.unit:
        if got.certain and want.certain and got.unit and want.unit:
            return f"Its unit is {excerpt(got.unit, 40)}; expected is {excerpt(want.unit, 40)}."
        got = got if got.certain else Quantity(found)
        want = want if want.certain else Quantity(expected)
    a, b = got.number(), want.number()
    if a is not None and b is not None:
        scale = Fraction(100) ** (got.percent - want.percent)
        same = a.value == b.value * scale
        if got.percent == want.percent or want.percent:
            same = same or same_number(a, b)
        return None if same else _NUMBERS_DIFFER
    if got.percent != want.percent:
        return "One of the two is a percentage."
    words, expected_words = _words(got.value), _words(want.value)
    if words is not None or expected_words is not None:
        return None if words == expected_words else "The words are not the same."
    if got.scale != want.scale:
        return _NUMBERS_DIFFER
    return _difference(got.value, want.value)


def _words(text: str) -> str | None:
    plain = re.sub(r"[.-]", " ", _TEXT.sub(r"\1", text)).strip()
    return " ".join(plain.casefold().split()) if _WORDS.fullmatch(plain) else None
