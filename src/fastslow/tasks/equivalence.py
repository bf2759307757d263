r"""Whether two written mathematical answers are the same, and if not, where they differ.

Numbers with their percent signs and units, words, and the structure of lists, tuples, intervals and
sets are decided here by reading; only single expressions, relations and unions are left to algebra.
Brackets matter: (1, 2) is neither [1, 2] nor {1, 2}. The parts of a set, or of a list without
brackets, may come in any order, the parts of a tuple may not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from fastslow.tasks.algebra import difference
from fastslow.tasks.answers import excerpt
from fastslow.tasks.quantities import Quantity, read_number, read_quantity, same_number, standard

LIMIT = 400
"""Characters of an answer that algebra is done on, at least; never less than twice the
reference's."""

_SPELLINGS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right|[bB]igg?[lr]?)(?![A-Za-z])|\\displaystyle(?![A-Za-z])|\\!", ""),
        (r"(?<!\\)\\[,:; ]|~|\\q?quad(?![A-Za-z])|\s+", " "),
        (r"\\[dtc]frac", r"\\frac"),
        (r"\\lbrace(?![A-Za-z])", r"\\{"), (r"\\rbrace(?![A-Za-z])", r"\\}"),
        (r"\\leq(?:slant)?(?![A-Za-z])|\u2264", r"\\le "),
        (r"\\geq(?:slant)?(?![A-Za-z])|\u2265", r"\\ge "),
        (r"\u221e|(?<![\\A-Za-z])(?:infinity|inf|oo)(?![A-Za-z])", r"\\infty "),
        (r"\+ ?\\infty", r"\\infty"),
        (r"\u03c0|(?<![\\A-Za-z])pi(?![A-Za-z])", r"\\pi "),
        (r"\u221a", r"\\sqrt "), (r"(?<!\\)sqrt\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"\\cdot(?![A-Za-z])|\u00b7|\u22c5", r"\\cdot "), (r"\u222a", r"\\cup "),
        (r"\u00b1", r"\\pm "), (r"\*\*", "^"),
        (r"\^ ?\{?\\(?:circ|degree)\}?|\\degree(?![A-Za-z])|\u00b0", r"\\text{degree}"),
        (r"\\(?:text|mathrm|mbox|textbf|textit|mathbf|operatorname)\{ *(and|or) *\}", r" \1 "),
        (r"([_^])\{(\w)\}(?!\w)", r"\1\2"),
        (r"\\(?:text(?:bf|rm|it|normal)?|mathrm|mbox|mathbf|operatorname) *\{", r"\\text{"),
    )
]  # fmt: skip
"""One spelling for what has several."""

_LEAD = re.compile(r"(?i)(?:the )?(?:final )?answer(?: is|:)[: ]*")
_MEMBER = re.compile(r"^ *\\?[A-Za-z]+ *\\in(?![A-Za-z]) *")
_WRAPPERS = ((r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"))
_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_WORDS = re.compile(r"[^\W\d_]{2,}(?:[ '-]+[^\W\d_]+)*|[^\W\d_](?:[ '-]+[^\W\d_]{2,})+")
_NAME = re.compile(r"(?:\\?[A-Za-z]+|\\text\{[^{}]*\})(?:_\w|_\{[^{}=]*\})?(?:\([\w, ]{1,20}\))?'?")
_SEPARATORS = re.compile(r"[,;]| (?:and|or) ")
_WHOLE = re.compile(r"[<>]|\\(?:le|ge|neq?|in|cup|cap|setminus|equiv|begin)(?![A-Za-z])")
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|.", re.DOTALL)


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
    try:
        return _compare(_tidy(found), _tidy(expected), percentage)
    except RecursionError:
        return "Its brackets are nested too deeply."


def is_number(text: str) -> bool:
    """Whether a written answer is one number, with or without a unit or a percent sign."""
    return read_number(read_quantity(_tidy(text)).value) is not None


def _compare(found: str, expected: str, percentage: bool) -> str | None:
    if found == expected:
        return None
    if not found:
        return "There is nothing to read in the answer."
    if _as_they_stand(found, expected):
        return difference(found, expected)
    got, want = _structure(found), _structure(expected)
    if got.brackets != want.brackets:
        return f"It is {got.kind}; expected is {want.kind}."
    if len(got.parts) != len(want.parts):
        return f"It has {len(got.parts)} part(s); expected are {len(want.parts)}."
    if len(want.parts) == 1:
        return _single(got.parts[0], want.parts[0], percentage)
    if not want.brackets:
        return _unordered(got.parts, want.parts, percentage)
    for number, (a, b) in enumerate(zip(got.parts, want.parts, strict=True), start=1):
        if (remark := _compare(a, b, percentage)) is not None:
            return f"Part {number}, {excerpt(a, 60)}, is not {excerpt(b, 60)}: {remark}"
    return None


def _unordered(found: list[str], expected: list[str], percentage: bool) -> str | None:
    left = list(found)
    for part in expected:
        match = next((item for item in left if _compare(item, part, percentage) is None), None)
        if match is None:
            return f"{excerpt(part, 60)} is not among its parts."
        left.remove(match)
    return None


# Tidying: one spelling.


def _tidy(text: str) -> str:
    text = standard(text).strip()
    if text.count("$") % 2 == 0:  # else one is a currency sign
        text = text.replace("$", "")
    text = _LEAD.sub("", text, count=1) if _LEAD.match(text) else text
    for _ in range(3):  # "**$5$.**" is wrapped three times
        text = text.strip().rstrip(".,;:") if not text.endswith("\\,") else text[:-2]
        for opening, closing in _WRAPPERS:
            inner = text[len(opening) : -len(closing)]
            if text.startswith(opening) and text.endswith(closing) and closing not in inner:
                text = inner
                break
    for pattern, replacement in _SPELLINGS:
        text = pattern.sub(replacement, text)
    text = _MEMBER.sub("", text)
    whole = _TEXT.fullmatch(text.strip())
    text = re.sub(" +", " ", whole[1] if whole else text)
    # A space that parts neither two words nor two numbers means nothing.
    return re.sub(r" (?![A-Za-z0-9])|(?<![A-Za-z0-9}]) ", "", text).strip()


# Structure: brackets and parts.


@dataclass(frozen=True)
class _Structure:
    brackets: str
    parts: list[str]

    @property
    def kind(self) -> str:
        if self.brackets:
            return f"in brackets {self.brackets}"
        return "a list without brackets" if len(self.parts) > 1 else "a single value"


def _structure(text: str) -> _Structure:
    brackets, inner = _unwrap(text)
    if not brackets and read_number(read_quantity(inner).value) is not None:  # $1,234
        return _Structure("", [inner])
    parts = [part for item in _split(inner) for part in _signs(item)]
    if len(parts) == 1:
        if brackets in ("()", "{}", "\\{\\}"):  # (5) and {5} are 5
            return _structure(parts[0]) if parts[0] != text else _Structure("", parts)
        return _Structure(brackets, parts)
    # A list without brackets and a set are both a matter of what is in them.
    return _Structure("" if brackets in ("{}", "\\{\\}") else brackets, parts)


def _unwrap(text: str) -> tuple[str, str]:
    """The brackets around the whole of a text, if there are any, and what they hold."""
    for opening in ("\\{", "\\langle", "(", "[", "{"):
        if text.startswith(opening):
            for closing in ("\\}", "\\rangle", ")", "]", "}"):
                inner = text[len(opening) : -len(closing)]
                if text.endswith(closing) and _depths_positive(inner):
                    return opening + closing, inner
    return "", text


def _depths_positive(text: str) -> bool:
    """Whether every closing bracket in a text closes one that was opened in it."""
    return all(depth >= 0 for _, _, depth in _walk(text))


def _split(text: str) -> list[str]:
    """The parts of a text at the commas, semicolons, "and" and "or" outside all brackets."""
    depths = [0] * len(text)
    for start, end, depth in _walk(text):
        depths[start:end] = [depth] * (end - start)
    parts, start = [], 0
    for match in _SEPARATORS.finditer(text):
        if depths[match.start()] == 0:
            parts.append(text[start : match.start()])
            start = match.end()
    parts.append(text[start:])
    stripped = [part.strip() for part in parts]
    return [part for part in stripped if part] or [text]


def _walk(text: str) -> Iterator[tuple[int, int, int]]:
    """The tokens of a text, each with where it starts and ends and its depth in brackets."""
    depth = 0
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token in ("(", "[", "{", "\\{", "\\langle", "\\begin"):
            depth += 1
        elif token in (")", "]", "}", "\\}", "\\rangle", "\\end"):
            depth -= 1
        yield *match.span(), depth


def _signs(text: str) -> list[str]:
    r"""Both values of "a \pm b"."""
    if text.count("\\pm") != 1 or "\\mp" in text:
        return [text]
    plus = text.replace("\\pm", "+")
    return [plus.removeprefix("+").strip(), text.replace("\\pm", "-")]


# Single values.


def _single(found: str, expected: str, percentage: bool) -> str | None:
    """Compare what is neither a list nor in brackets."""
    name, *values = _sides(found)
    expected_name, expected_value, *chain = _sides(expected)
    if chain:
        return difference(found, expected)
    if name and expected_name and name != expected_name:
        return f"It says what {excerpt(name, 40)} is; expected is {excerpt(expected_name, 40)}."
    for number, value in enumerate(values, start=1):  # "2 + 3 = 5": every side must be right
        last = number == len(values)
        if (remark := _value(value, expected_value, percentage, worked=last)) is not None:
            return remark
    return None


def _sides(text: str) -> list[str]:
    """The name that stands before an equals sign, or "", and the sides of the equation(s)."""
    if "=" not in text or re.search(r"[<>!]", text):
        return ["", text]
    first, *rest = (side.strip() for side in text.split("="))
    if _NAME.fullmatch(first) and rest:
        return [first, *rest]
    return ["", first, *rest]


def _value(found: str, expected: str, percentage: bool, worked: bool) -> str | None:
    got, want = read_quantity(found), read_quantity(expected)
    a, b = read_number(got.value), read_number(want.value)
    if (remark := _units_differ(got, want, b is not None)) is not None:
        return remark
    if a is not None and b is not None:
        if got.percent == want.percent:
            same = same_number(a, b)
        else:
            same = (percentage or want.percent) and same_number(a, b)
            scale = 100 if got.percent else Fraction(1, 100)
            same = same or a.value == b.value * scale
        return None if same else "The two numbers are not the same."
    if got.percent != want.percent:
        return "One of the two is a percentage."
    words, expected_words = _words(got.value), _words(want.value)
    if words is not None or expected_words is not None:
        return None if words == expected_words else "The words are not the same."
    return difference(got.value, want.value, plain=worked and b is not None)


def _units_differ(got: Quantity, want: Quantity, number: bool) -> str | None:
    if got.unit == want.unit:
        return None
    if got.unit and want.unit:
        return f"Its unit is {excerpt(got.unit, 40)}; expected is {excerpt(want.unit, 40)}."
    if want.unit and not want.optional:
        return f"{excerpt(want.unit, 40)} is missing."
    if got.unit and not got.optional and not number:
        return f"{excerpt(got.unit, 40)} was not expected."
    return None


def _words(text: str) -> str | None:
    plain = _TEXT.sub(r"\1", text).strip()
    return plain.casefold() if _WORDS.fullmatch(plain) else None


def _as_they_stand(found: str, expected: str) -> bool:
    """Whether two answers are compared whole, since one is a relation, a union or a matrix."""
    return any(_WHOLE.search(text) for text in (found, expected))
