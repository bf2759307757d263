"""Reading an answer out of a completion, and telling a reflection step what was found there.

Every task here asks for the final answer between ``<answer>`` and ``</answer>``; a completion
without a complete pair has no answer, however right its text may be. All functions take time
linear in the text and never raise, whatever a model wrote.
"""

from __future__ import annotations

import re
from collections import deque
from decimal import Decimal, InvalidOperation

OPEN, CLOSE = "<answer>", "</answer>"

MISSING = (
    f"No complete {OPEN}...{CLOSE} pair was found, so there is no answer to grade. "
    "Only the text between these tags is read."
)

_NUMBER = re.compile(
    r"""
    (?:(?<![\w.)\]])[-+\u2212])?          # a sign, but not that of "5-3"
    (?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])  # thousands separators: 1,234,567
      |[0-9]+)
    (?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?
    |(?:(?<![\w.)\]])[-+\u2212])?(?<![0-9.])\.[0-9]+(?:[eE][-+]?[0-9]+)?
    """,
    re.VERBOSE,
)
_LEADING_LETTER = re.compile(r"[(\[]?([A-Za-z])(?:[)\].:,]|$)")
_LONE_CAPITAL = re.compile(r"(?<![\w'])[A-Z](?![\w'])")


def tagged(answer: str) -> str:
    """``answer`` in the format in which it is read: between the tags."""
    return f"{OPEN}{answer}{CLOSE}"


def extract_answer(completion: str) -> str | None:
    """The stripped text of the last complete pair of answer tags, or None if there is none.

    Of nested or unclosed tags the innermost pair counts.
    """
    start = completion.rfind(OPEN, 0, max(completion.rfind(CLOSE), 0))
    if start < 0:
        return None
    start += len(OPEN)
    return completion[start : completion.find(CLOSE, start)].strip()


def last_number(text: str) -> Decimal | None:
    """The last number in ``text``, or None.

    Reads signs (the Unicode minus too), thousands separators, decimals and exponents; a currency
    sign before it or a unit behind it does no harm. A decimal, not an int or float: its digits
    are kept, and a million of them cost no more than reading them. A number beyond 1e1000 or
    below 1e-1000 counts as none, since sums with it would overflow.
    """
    matches = deque(_NUMBER.finditer(text), maxlen=1)
    if not matches:
        return None
    try:
        number = Decimal(matches[0].group().replace(",", "").replace("\u2212", "-"))
    except InvalidOperation:  # an exponent beyond what a decimal holds
        return None
    return number if abs(number.adjusted()) < 1000 else None


def choice_letter(text: str) -> str | None:
    """The letter of a multiple choice, upper case, or None if there is none or more than one.

    "B", "b", "(B)", "B) Paris" and "B: because not A" are read by their first letter, any other
    text by the only capital that stands alone in it.
    """
    if leading := _LEADING_LETTER.match(text.strip()):
        return leading.group(1).upper()
    letters = set(_LONE_CAPITAL.findall(text))
    return letters.pop() if len(letters) == 1 else None


def excerpt(text: str, limit: int = 200) -> str:
    """``text`` as one quoted line of at most about ``limit`` characters, its end first to go."""
    return repr(text if len(text) <= limit else f"{text[:limit]}...")


def lesson(
    completion: str, expected: str | None, worked: str | None, remark: str | None = None
) -> str:
    """Feedback on a completion that did not score 1: format, what was found, what was expected.

    Args:
        completion: the graded text.
        expected: the reference answer, if the task has one.
        worked: a completion that would have scored 1, if the task knows one.
        remark: what exactly is wrong with the answer that was found.
    """
    answer = extract_answer(completion)
    if answer is None:
        ending = completion.strip()[-200:]
        lines = [MISSING, f"The completion ended: {ending!r}." if ending else "It was empty."]
    else:
        lines = [f"The answer found was {excerpt(answer)}."]
    if remark:
        lines.append(remark)
    if expected is not None:
        lines.append(f"The expected answer is {excerpt(expected, 1000)}.")
    if worked is not None:
        lines.append(f"A completion that scores 1:\n{worked}")
    return "\n".join(lines)
