"""Feedback on an answer, for the fast learner: the format, what was found, what was expected."""

from __future__ import annotations

from fastslow.grading.answers import Style, Which, extract
from fastslow.text import excerpt

MISSING: dict[Style, str] = {
    "tags": "No complete <answer>...</answer> pair was found, so there is no answer to grade. "
    "Only the text between <answer> and </answer> is read.",
    "boxed": r"No complete \boxed{...} was found, so there is no answer to grade. "
    r"Only what stands in \boxed{...} is read.",
    "number": "No number was found that stands for itself, so there is no answer to grade. "
    "The last number of the completion is read.",
    "letter": "No letter of a choice was found, or more than one, so there is no answer to grade. "
    "One capital letter is read, as in (B).",
}
"""What is told of a completion without an answer, in each style."""


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
        style, which: how the task reads answers, and which of several.
    """
    answer = extract(style, completion, which)
    if answer is None:
        ending = completion.strip()[-200:]
        lines = [
            MISSING[style],
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
