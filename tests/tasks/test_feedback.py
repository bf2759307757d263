from __future__ import annotations

import pytest

from fastslow.grading.answers import Style
from fastslow.tasks.feedback import lesson


@pytest.mark.parametrize(
    ("style", "told"),
    [
        ("tags", "No complete <answer>...</answer> pair was found"),
        ("boxed", r"Only what stands in \boxed{...} is read."),
        ("number", "The last number of the completion is read."),
        ("letter", "No letter of a choice was found, or more than one"),
    ],
)
def test_the_lesson_names_the_format_that_was_missed(style: Style, told: str) -> None:
    feedback = lesson("no idea", "12", "so 12", style=style)
    assert told in feedback
    assert "ended: 'no idea'" in feedback
    assert "expected answer is '12'" in feedback
    assert feedback.endswith("A completion that scores 1:\nso 12")


@pytest.mark.parametrize("style", ["tags", "boxed", "number", "letter"])
@pytest.mark.parametrize("text", ["9" * 10**6, r"\boxed{" * 70_000 + "}" * 70_000, "A, " * 330_000])
def test_the_lesson_on_a_megabyte_is_short(style: Style, text: str) -> None:
    assert len(lesson(text, "5", None, style=style)) < 1000
