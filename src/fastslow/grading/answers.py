"""Reading an answer out of a completion.

A task reads answers in one style: between ``<answer>`` and ``</answer>``, in ``\\boxed{...}``, as
the last number of the text, or as the letter of a choice. The last answer counts, unless the first
is asked for; answers joined by "or", "and" or a comma count as one answer that names them all, so
that nobody is right by naming many. All functions take time linear in the text and never raise,
whatever a model wrote.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from decimal import Decimal, localcontext
from itertools import islice
from typing import Literal

from fastslow.grading.notation import NEGATION, grouped, plain
from fastslow.grading.numbers import MAX_DIGITS, NUMBER
from fastslow.grading.units import SCALES, UNITS, read_quantity

Style = Literal["tags", "boxed", "number", "letter"]
Which = Literal["last", "first"]
Span = tuple[int, int, str]
"""An answer in a text: where all of it starts and ends, and what it holds."""

_TAGGED = re.compile(r"<answer>((?:(?!</?answer>).)*)</answer>", re.DOTALL)
_BOX = r"\\{1,2}(?:f?boxed|fbox)"
_BRACES = re.compile(
    rf"({_BOX}\s{{0,4}}\{{)"
    rf"|{_BOX}(?:\s{{1,4}}(?=[^\s{{}}$\\])|(?=[0-9]))([^\s{{}}$]+)"  # \boxed 5
    r"|\\.|(\{)|(\})",
    re.DOTALL,
)
_INNER_BOX = re.compile(rf"{_BOX}\s{{0,4}}(?=\{{)")
_JOINT = re.compile(r"(?:(?:,|;)?(?:and|or)|,|;)(?:[A-Za-z][0-9_]{0,2}=)?")
_BETWEEN_JOINTS = re.compile(r"\\text|\\[()\[\]]|[\s${}*]")

_EMPHASIS = re.compile(
    r"(?<![\w)\]}*])[*_]{1,3}(?=[^\s*_])"  # opens: "**42", not "2**3"
    r"|(?<=[^\s*_(\[{])\*{1,3}(?![\w(\\{*])|`"  # closes: "42**"
)
_MONEY = "$\u20ac\u00a3\u00a5\u20b9"
_SIGNED_NUMBER = re.compile(
    rf"(?=[-+{_MONEY}]{{0,3}}[.0-9\\])"  # saves time
    rf"(?<![\^_])(?<!\^[-+])(?<![\^_]\{{)(?<!\^\{{[-+])(?<!\*\*)"  # no exponent, no index
    rf"(?:(?<![\w.)\]}}])[-+])?(?:[{_MONEY}][-+]?)?"  # a sign, not that of "5-3"
    rf"(?:{NUMBER})(?:[ ](?=[a-z])(?:{'|'.join(SCALES)})(?![A-Za-z]))?(?:[ ]?%)?",
    re.VERBOSE,
)
_GOES_ON = re.compile(
    r"[ ]?(?:\^(?!\{?\\circ)|\*\*|\\pi|\\sqrt|sqrt|[xyz](?![A-Za-z]))|([A-Za-z]+)"
)
_BLOCK = 2**14
_MARGIN = 2 * MAX_DIGITS
"""What is longer than ``MAX_DIGITS`` is no number, so a number ends within the margin."""
_ROOT = re.compile(r"sqrt[ ]?[{(]?[ ]?$")
_ALTERNATIVE = re.compile(r"[0-9][^\w\n]*\sor\W*$")
_SEVERAL = re.compile(r"[,;]|(?<![A-Za-z])(?:and|or)(?![A-Za-z])")

_FONT = re.compile(r"\\(?:text(?:bf|rm|it)?|math(?:bf|rm|it)|f?boxed|fbox)(?![A-Za-z])|[${}*`]")
_LEADING_LETTER = re.compile(r"[(\[]?([A-Za-z])(?:[)\].:,]|$)")
_NEXT_LETTER = re.compile(
    r"(?:(?<=,)|[ ]?(?:,|/|&|or\b|and\b))[ ]*(?:or\b|and\b)?[ ]*[(\[]?[A-Z]\b"
)
_ANNOUNCED = re.compile(r"(?i:answer|choice|option)(?: is|:| =)*[ ]*[(\[]?([A-Za-z])[)\].!]*$")
_LONE_CAPITAL = re.compile(r"(?<![\w'])(?!I (?!is\b|or\b|and\b)[a-z])([A-Z])(?![\w'])")
_CLAUSE = re.compile(r"[.,;:!?\n]")
_REFUSED = re.compile(r"[)\].,:]*\s*(?:is|was|are)?\s*(?:not|wrong|incorrect|false|isn't)\b")


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
    if style == "tags":
        tags = _TAGGED.finditer(completion)
        runs = _runs(completion, ((tag.start(), tag.end(), tag[1].strip()) for tag in tags))
    else:
        runs = _runs(completion, _boxes(completion))
    run = next(runs, None) if which == "first" else next(iter(deque(runs, maxlen=1)), None)
    return None if run is None else ", ".join(dict.fromkeys(run))  # "3, 3" is one answer


def extract_answer(completion: str) -> str | None:
    """The last answer between ``<answer>`` and ``</answer>``: ``extract("tags", completion)``."""
    return extract("tags", completion)


def formatted(style: Style, answer: str) -> str:
    """``answer`` as a completion would give it in that style."""
    return {"tags": tagged(answer), "boxed": rf"\boxed{{{answer}}}"}.get(style, answer)


def tagged(answer: str) -> str:
    """``answer`` in the format in which it is read: between the tags."""
    return f"<answer>{answer}</answer>"


def last_number(text: str) -> Decimal | None:
    """The last number in ``text``, or None.

    Reads what ``numbers.read_number`` does, and "5 million"; a currency sign before it, or a unit
    or a percent sign behind it, does no harm. None too where the last number is but a part of a
    power, a root or a product such as "5x", is longer than 1,000 characters, beyond 1e1000 or below
    1e-1000.
    """
    written = _number_text(text, "last")
    return None if written is None else _decimal(written)


def only_number(text: str) -> Decimal | None:
    """The one number that ``text`` names, perhaps more than once, or None if it names several.

    Of "2 + 3 = 5" it is what stands behind the last equals sign.
    """
    before, _, last = text.rpartition("=")
    text = text if _SEVERAL.search(before) else last
    written = {match.group() for match in islice(_SIGNED_NUMBER.finditer(_standard(text)), 1000)}
    return last_number(text) if len({_decimal(each) for each in written}) == 1 else None


def choice_letter(text: str) -> str | None:
    """The letter of a multiple choice, upper case, or None if there is none or more than one.

    "B", "b", "(B)", "B) Paris" and "B: because not A" are read by their first letter, "the answer
    is b" by its last, any other text by the only capital that stands alone in it and is no pronoun.
    "A, B" and "A or B" name more than one. A letter that is negated is none: "not A", "A is wrong".
    """
    text = _FONT.sub("", text).strip()
    leading = _LEADING_LETTER.match(text)
    if leading and not _NEXT_LETTER.match(text, leading.end()):
        found = [leading]
    elif announced := _ANNOUNCED.search(text, max(0, len(text) - 60)):
        found = [announced]
    else:
        found = list(_LONE_CAPITAL.finditer(text))
    if len({each[1] for each in found}) != 1 or _REFUSED.match(text, found[0].end()):
        return None
    clause = _CLAUSE.split(text[: found[0].start()])[-1]
    return None if NEGATION.search(clause) else found[0][1].upper()


def _boxes(text: str) -> Iterator[Span]:
    r"""Outermost complete ``\boxed{...}`` in order; escaped braces, as in ``\{``, do not count."""
    open_braces: list[tuple[int, int] | None] = []  # where a box and its content start
    boxes: list[tuple[int, int, int]] = []
    for brace in _BRACES.finditer(text):
        box, bare, opening, closing = brace.groups()
        if bare:
            boxes.append((brace.start(), brace.start(2), brace.start(2) + len(bare.rstrip(".,;"))))
        elif box or opening:
            open_braces.append(brace.span() if box else None)
        elif closing and open_braces and (begun := open_braces.pop()) is not None:
            while boxes and boxes[-1][0] > begun[0]:
                boxes.pop()  # it lies within this one
            boxes.append((*begun, brace.start()))
    for start, content, end in boxes:
        yield start, end + 1, _INNER_BOX.sub("", text[content:end]).strip()


def _runs(text: str, spans: Iterable[Span]) -> Iterator[list[str]]:
    """Answers in order, those together that are joined by "or", "and", a comma or a semicolon."""
    run: list[str] = []
    last = 0
    for start, end, content in spans:
        between = _BETWEEN_JOINTS.sub("", text[last:start][:60])
        if run and not _JOINT.fullmatch(between):
            yield run
            run = []
        run.append(content)
        last = end
    if run:
        yield run


def _standard(text: str) -> str:
    """``text`` without emphasis, and with one spelling of what stands in numbers."""
    text = grouped(plain(text)).replace("\\$", "$").replace("\\%", "%")
    return _EMPHASIS.sub("", text) if re.search("[*_`]", text) else text


def _number_text(text: str, which: Which) -> str | None:
    """The number that counts, as it is written; "3 or 4" where it is one of two alternatives.

    None if there is none, or if it is but a part of what is written.
    """
    text = _standard(text)
    numbers = list(islice(_SIGNED_NUMBER.finditer(text), 1)) if which == "first" else _last(text)
    if not numbers:
        return None
    number = numbers[-1]
    before = text[max(0, number.start() - 16) : number.start()]
    after = _GOES_ON.match(text, number.end())
    if _ROOT.search(before) or (after and not _is_ending(after[1])):
        return None
    if len(numbers) > 1 and _ALTERNATIVE.search(before):
        return text[numbers[0].start() : number.end()].strip()
    return re.sub(f"[{_MONEY}]", "", number.group()).strip()


def _last(text: str) -> list[re.Match[str]]:
    """The last two numbers of a text, or as many as it has.

    The text is read in blocks from its end, because matching every number of a long text takes ten
    times as long as skipping text without numbers. Each block is read with a margin on both sides,
    since a number may cross its borders.
    """
    last: list[re.Match[str]] = []
    for end in range(len(text), 0, -_BLOCK):
        start = max(0, end - _BLOCK)
        numbers = _SIGNED_NUMBER.finditer(text, max(0, start - _MARGIN), end + _MARGIN)
        last = [number for number in numbers if start <= number.start() < end][-2:] + last
        if len(last) >= 2:
            break
    return last[-2:]


def _is_ending(letters: str | None) -> bool:
    """Whether letters right behind a number leave it one: "5th", "5cm", not "5x"."""
    ending = (letters or "").lower()
    return ending in ("st", "nd", "rd", "th") or (len(ending) > 1 and ending in UNITS)


def _decimal(written: str) -> Decimal | None:
    number = read_quantity(written.rstrip("% ")).number()
    if number is None:
        return None
    with localcontext(prec=2 * MAX_DIGITS):
        value = Decimal(number.value.numerator) / Decimal(number.value.denominator)
    return value if abs(value.adjusted()) < 1000 else None
