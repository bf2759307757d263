from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.text import lines, one_line, well_formed

anything = st.text(st.characters())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\n\t b\u2028c", "a b c"),
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("\x9b2J\x07beep", "2Jbeep"),
        ("[bold]x[/bold]", "[bold]x[/bold]"),
        ("abc\u202edef\u2066", "abcdef"),
        ("\u200b \u200b", ""),
        ("été 東京 שלום", "été 東京 שלום"),
    ],
)
def test_one_line_keeps_what_is_read_and_drops_what_steers(text: str, shown: str) -> None:
    assert one_line(text) == shown


@given(anything)
def test_nothing_that_steers_a_terminal_is_shown(text: str) -> None:
    for line in [one_line(text), *lines(text)]:
        assert not [c for c in line if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]


@given(anything)
def test_well_formed_text_can_be_written_as_utf8(text: str) -> None:
    written = well_formed(text).encode("utf-8")
    if not any("\ud800" <= c <= "\udfff" for c in text):
        assert written.decode("utf-8") == text


def test_halves_of_a_pair_are_joined() -> None:
    assert well_formed("\ud83d\ude00 \ud83d") == "\U0001f600 \ufffd"
