"""Reading an answer out of a completion, and telling a reflection step what was found there.

A task reads answers in one style: between ``<answer>`` and ``</answer>``, in ``\\boxed{...}``, as
the last number of the text, or as the letter of a choice. The last answer counts, unless the first
is asked for; answers joined by "or", "and" or a comma count as one answer that names them all, so
that nobody is right by naming many. All functions take time linear in the text and never raise,
whatever a model wrote.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import Literal, NamedTuple

from fastslow.grading.notation import plain as standard
from fastslow.grading.numbers import MAX_DIGITS, NUMBER, read_number

Style = Literal["tags", "boxed", "number", "letter"]
Which = Literal["last", "first"]

OPEN, CLOSE = "<answer>", "</answer>"

READ: dict[Style, str] = {
    "tags": f"Only the text between {OPEN} and {CLOSE} is read.",
    "boxed": r"Only what stands in \boxed{...} is read.",
    "number": "The last number of the completion is read.",
    "letter": "One capital letter is read, as in (B).",
}
"""What is read of a completion in each style."""

MISSING: dict[Style, str] = {
    "tags": f"No complete {OPEN}...{CLOSE} pair was found, so there is no answer to grade.",
    "boxed": r"No complete \boxed{...} was found, so there is no answer to grade.",
    "number": "No number was found that stands for itself, so there is no answer to grade.",
    "letter": "No letter of a choice was found, or more than one, so there is no answer to grade.",
}

_TAGS = re.compile("<answer>|</answer>")
_BRACES = re.compile(r"(\\{1,2}f?boxed[ ]{0,4}\{)|\\.|(\{)|(\})", re.DOTALL)
_BOX = re.compile(r"\\{1,2}f?boxed[ ]{0,4}(?=\{)")
_JOINT = re.compile(r"(?:,|;)?(?:and|or)|,|;")
_BETWEEN_JOINTS = re.compile(r"\\text|\\[()\[\]]|[\s${}*]")

_SIGNED_NUMBER = re.compile(
    rf"(?<![\^_])(?<!\^[-+])(?<![\^_]\{{)(?<!\^\{{[-+])(?<!\*\*)"  # no exponent, no index
    rf"(?:(?<![\w.)\]}}])[-+])?(?:{NUMBER})[ ]?%?",  # a sign, but not that of "5-3"
    re.VERBOSE,
)
_DIGIT = re.compile("[0-9\uff10-\uff19\u00bc-\u00be\u2150-\u215e]")
_GOES_ON = re.compile(r"[ ]?(?:\^(?!\{?\\circ)|\*\*|\\pi|\\sqrt|\u03c0|\u221a|sqrt)")
_ROOT = re.compile(r"(?:\u221a|sqrt)[ ]?[{(]?[ ]?$")
_ALTERNATIVE = re.compile(r"[0-9][^\w\n]*\sor\W*$")

_LEADING_LETTER = re.compile(r"[(\[]?([A-Za-z])(?:[)\].:,]|$)")
_NEXT_LETTER = re.compile(
    r"(?:(?<=,)|[ ]?(?:,|/|&|or\b|and\b))[ ]*(?:or\b|and\b)?[ ]*[(\[]?[A-Z]\b"
)
_LONE_CAPITAL = re.compile(r"(?<![\w'])[A-Z](?![\w'])")


class _Span(NamedTuple):
    """An answer in a text: all of it, from ``start`` to ``end``, and what it holds."""

    start: int
    end: int
    content: str


def extract(style: Style, completion: str, which: Which = "last") -> str | None:
    """The stripped answer in a completion, or None if there is none in that style.

    Args:
        style: how answers are written. Of nested tags the innermost complete pair counts, of
            nested boxes the outermost complete one, without the boxes in it.
        completion: the text of a completion.
        which: whether the last or the first answer counts.
    """
    if style == "number":
        return _number_text(completion, which)
    if style == "letter":
        return choice_letter(completion)
    runs = _runs(completion, _tag_spans(completion) if style == "tags" else _box_spans(completion))
    run = next(runs, None) if which == "first" else next(iter(deque(runs, maxlen=1)), None)
    # Said once more, an answer is still one answer.
    return None if run is None else ", ".join(dict.fromkeys(span.content for span in run))


def extract_answer(completion: str) -> str | None:
    """The last answer between ``<answer>`` and ``</answer>``: ``extract("tags", completion)``."""
    return extract("tags", completion)


def formatted(style: Style, answer: str) -> str:
    """``answer`` as a completion would give it in that style."""
    return {"tags": tagged(answer), "boxed": rf"\boxed{{{answer}}}"}.get(style, answer)


def tagged(answer: str) -> str:
    """``answer`` in the format in which it is read: between the tags."""
    return f"{OPEN}{answer}{CLOSE}"


def last_number(text: str) -> Decimal | None:
    """The last number in ``text``, or None.

    Reads what ``quantities.read_number`` does: signs (the Unicode minus too), thousands
    separators, decimals, exponents, fractions and mixed numbers; a currency sign before it, or a
    unit or a percent sign behind it, does no harm. None too where the last number is but a part of
    a power or a root, is longer than 1,000 characters, beyond 1e1000 or below 1e-1000.
    """
    written = _number_text(text, "last")
    number = None if written is None else read_number(written.rstrip("% "))
    if written is None or number is None:
        return None
    try:
        value = Decimal(written.rstrip("% ").replace(",", ""))  # keeps all its digits
    except InvalidOperation:
        value = Decimal(number.value.numerator) / Decimal(number.value.denominator)
    return value if abs(value.adjusted()) < 1000 else None


def choice_letter(text: str) -> str | None:
    """The letter of a multiple choice, upper case, or None if there is none or more than one.

    "B", "b", "(B)", "B) Paris" and "B: because not A" are read by their first letter, any other
    text by the only capital that stands alone in it. "A, B" and "A or B" name more than one.
    """
    text = text.strip()
    if (leading := _LEADING_LETTER.match(text)) and not _NEXT_LETTER.match(text, leading.end()):
        return leading.group(1).upper()
    letters = set(_LONE_CAPITAL.findall(text))
    return letters.pop() if len(letters) == 1 else None


def excerpt(text: str, limit: int = 200) -> str:
    """``text`` as one quoted line of at most about ``limit`` characters, its end first to go."""
    return repr(text if len(text) <= limit else f"{text[:limit]}...")


def lesson(
    completion: str,
    expected: str | None,
    worked: str | None,
    remark: str | None = None,
    *,
    style: Style = "tags",
    which: Which = "last",
) -> str:
    """Feedback on a completion that did not score 1: format, what was found, what was expected.

    Args:
        completion: the graded text.
        expected: the reference answer, if the task has one.
        worked: a completion that would have scored 1, if the task knows one.
        remark: what exactly is wrong with the answer that was found.
        style: how the task reads answers.
        which: which of several answers the task reads.
    """
    answer = extract(style, completion, which)
    if answer is None:
        ending = completion.strip()[-200:]
        lines = [
            f"{MISSING[style]} {READ[style]}",
            f"The completion ended: {ending!r}." if ending else "It was empty.",
        ]
    else:
        lines = [f"The answer found was {excerpt(answer)}."]
    if remark:
        lines.append(remark)
    if expected is not None:
        lines.append(f"The expected answer is {excerpt(expected, 1000)}.")
    if worked is not None:
        lines.append(f"A completion that scores 1:\n{worked}")
    return "\n".join(lines)


def _tag_spans(text: str) -> Iterator[_Span]:
    """Innermost complete pairs of tags, in order."""
    opened: re.Match[str] | None = None
    for tag in _TAGS.finditer(text):
        if tag.group() == OPEN:
            opened = tag
        elif opened is not None:
            content = text[opened.end() : tag.start()].strip()
            yield _Span(opened.start(), tag.end(), content)
            opened = None


def _box_spans(text: str) -> list[_Span]:
    r"""Outermost complete ``\boxed{...}`` in order; escaped braces, as in ``\{``, do not count."""
    open_braces: list[tuple[int, int] | None] = []  # where a box and its content start
    boxes: list[tuple[int, int, int]] = []
    for brace in _BRACES.finditer(text):
        box, opening, closing = brace.groups()
        if box or opening:
            open_braces.append(brace.span() if box else None)
        elif closing and open_braces and (begun := open_braces.pop()) is not None:
            while boxes and boxes[-1][0] > begun[0]:
                boxes.pop()  # it lies within this one
            boxes.append((*begun, brace.start()))
    return [
        _Span(start, end + 1, _BOX.sub("", text[content:end]).strip())
        for start, content, end in boxes
    ]


def _runs(text: str, spans: Iterator[_Span] | list[_Span]) -> Iterator[list[_Span]]:
    """Spans in order, those together that are joined by "or", "and", a comma or a semicolon."""
    run: list[_Span] = []
    for span in spans:
        if run and not _joined(text[run[-1].end : span.start][:60]):
            yield run
            run = []
        run.append(span)
    if run:
        yield run


def _joined(between: str) -> bool:
    return _JOINT.fullmatch(_BETWEEN_JOINTS.sub("", between)) is not None


def _number_text(text: str, which: Which) -> str | None:
    """The number that counts, as it is written; "3 or 4" where it is one of two alternatives."""
    for part in _around_number(text, which):
        part = standard(part)
        matches = _SIGNED_NUMBER.finditer(part)
        last_two = deque(islice(matches, 1) if which == "first" else matches, maxlen=2)
        if last_two:
            return _standing_alone(part, last_two)
    return None


def _around_number(text: str, which: Which) -> Iterator[str]:
    """The neighbourhood of the first or last digit, where the number nearly always is; then all."""
    digit = _DIGIT.search(text if which == "first" else text[::-1])
    if digit is None:
        return
    here = digit.start() if which == "first" else len(text) - digit.end()
    yield text[max(0, here - 3 * MAX_DIGITS) : here + 3 * MAX_DIGITS]
    yield text


def _standing_alone(text: str, numbers: deque[re.Match[str]]) -> str | None:
    """The last of the numbers found in a text, unless it is but a part of what is written."""
    match = numbers[-1]
    before = text[max(0, match.start() - 16) : match.start()]
    if _GOES_ON.match(text, match.end()) or _ROOT.search(before):
        return None
    if len(numbers) > 1 and _ALTERNATIVE.search(before):
        return text[numbers[0].start() : match.end()].strip()
    return match.group().strip()
