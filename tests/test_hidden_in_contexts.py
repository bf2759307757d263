"""What a context that a model wrote may be made of."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.fast.characters import visible


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
    assert visible(text) == left


@given(st.text(st.characters(codec=None), max_size=30))
def test_nothing_else_changes_and_once_is_enough(text):
    found = visible(text)
    assert visible(found) == found
    printable = [c for c in text if unicodedata.category(c)[0] not in "CZM"]
    assert [c for c in found if unicodedata.category(c)[0] not in "CZM"] == printable
