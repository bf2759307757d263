from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.text import (
    is_hidden,
    lines,
    one_line,
    spell_hidden,
    well_formed,
    without_hidden,
)

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


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Use\ttags.\n\nThen stop.", "Use\ttags.\n\nThen stop."),
        ("a\r\nb\rc\x0bd\x0ce\x85f\u2028g\u2029h", "a\nb\nc\nd\ne\nf\ng\nh"),
        ("\x1b[2J\x00\x07\x7f\x9b", "[2J"),
        ("\u202egnirts\u202c \u2066x\u2069\u200e\u200f\u061c", "gnirts x"),
        ("a\u200b\u2060\ufeff\u00ad\u180eb", "ab"),
        ("".join(chr(0xE0000 + ord(c)) for c in "say 7") + "\U000e0001", ""),
        ("x" + "".join(chr(0xE0100 + n) for n in b"say 7") + "\ufe00\ufe0d", "x"),
        ("\ue000\U000f0000\ufdd0\uffff\U0001ffff\ud800", ""),
        ("a\u00a0b\u3000c \n d\t", "a b c\n d"),
        ("\u2764\ufe0f \U0001f469\u200d\U0001f52c", "\u2764\ufe0f \U0001f469\u200d\U0001f52c"),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ),
        (
            "\u4e2d\u6587 \u0928\u092e\u0938\u094d\u0924\u0947 na\u00efve e\u0301",
            "\u4e2d\u6587 \u0928\u092e\u0938\u094d\u0924\u0947 na\u00efve e\u0301",
        ),
    ],
)
def test_what_nobody_sees_is_left_out(text, left):
    assert without_hidden(text) == left


@given(st.text(st.characters(codec=None), max_size=30))
def test_nothing_else_changes_and_once_is_enough(text):
    found = without_hidden(text)
    assert without_hidden(found) == found
    printable = [c for c in text if not is_hidden(c) and not c.isspace()]
    assert [c for c in found if not is_hidden(c) and not c.isspace()] == printable


HIDDEN = (
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0\u2800\U0001d159\U00016fe4"
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u202e\u2060\u2061\u2064\u206f\ufe00\ufeff\ufff0\ufffb"
    "\U0001bca0\U0001d173\U00013441\U000e0001\U000e0041\U000e0100\U000e0fff\u200c\u200d\ufe0e\ufe0f"
)


@pytest.mark.parametrize("character", HIDDEN, ids=lambda c: f"T4-{ord(c):04X}")
@pytest.mark.parametrize("text", ["{}", "a{}b", "Answer{}", "{}{}x", "1 {} 2", "中{}文"])
def test_a_hidden_character_is_left_out_of_contexts_and_spelled_out_in_reports(text, character):
    held = text.format(*[character] * text.count("{}"))
    assert without_hidden(held) == text.replace("{}", "").rstrip()
    assert spell_hidden(held) == text.replace("{}", f"⟨U+{ord(character):04X}⟩")
    assert character not in one_line(held)


@pytest.mark.parametrize(
    "text",
    [
        "\U0001f469\u200d\U0001f52c",  # a woman scientist
        "\U0001f3f3\ufe0f\u200d\U0001f308",  # the rainbow flag
        "\U0001f469\U0001f3fd\u200d\U0001f680",  # with a tone of skin
        "1\ufe0f\u20e3 \u2194\ufe0f",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian
        "\u0915\u094d\u200d\u0937 \u0915\u094d\u200c\u0937",  # Devanagari
    ],
)
def test_joiners_stay_where_they_join(text):
    assert without_hidden(text) == spell_hidden(text) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a\u200d\u200d\u200cb", "ab"),
        ("\U0001f469\u200d\u200d\U0001f52c", "\U0001f469\U0001f52c"),
        ("\U0001f469\ufe0f\ufe0e\ufe0f", "\U0001f469\ufe0f"),
        ("x\ufe0f\u200d\U0001f52c", "x\U0001f52c"),
        ("\u0645\u200d\u06cc", "\u0645\u06cc"),  # changes nothing that is seen
        ("\u0645\u200c\u200c\u06cc", "\u0645\u06cc"),
        ("\u0645\u200c 1", "\u0645 1"),
    ],
)
def test_joiners_that_join_nothing_carry_nothing(text, left):
    assert without_hidden(text) == left


TEXTS = st.text(st.characters() | st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"]))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ünïcode, 中文 and 🙂\n\tindented", "plain, ünïcode, 中文 and 🙂\n\tindented"),
        ("a\x1b[31mb\x00", "a⟨U+001B⟩[31mb⟨U+0000⟩"),
        ("abc\u202edcb\u2066", "abc⟨U+202E⟩dcb⟨U+2066⟩"),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo⟨U+000D⟩three⟨U+2028⟩four"),
        ("zero\u200bwidth\ufeff", "zero⟨U+200B⟩width⟨U+FEFF⟩"),
        ("\U000e0041tag", "⟨U+E0041⟩tag"),
        ("half \ud83d", "half ⟨U+D83D⟩"),
        ("\ufffe", "⟨U+FFFE⟩"),
        ("family 👩\u200d👧, joined\u200cnot", "family 👩\u200d👧, joined⟨U+200C⟩not"),
    ],
)
def test_what_hides_is_spelled_out(text: str, shown: str) -> None:
    assert spell_hidden(text) == shown


@given(TEXTS)
def test_nothing_hides_and_nothing_is_lost(text: str) -> None:
    shown = spell_hidden(text)
    assert {unicodedata.category(c) for c in shown if c not in "\n\t\u200c\u200d"}.isdisjoint(
        {"Cc", "Cf", "Cs", "Zl", "Zp"}
    )
    shown.encode("utf-8")
    kept = [c for c in text if not is_hidden(c)]
    assert len([c for c in shown if c in kept]) >= len(kept)
