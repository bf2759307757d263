from __future__ import annotations

import unicodedata

import pytest
from fastslow.report.visible import visible
from hypothesis import given
from hypothesis import strategies as st

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
        ("family 👩\u200d👧, joined\u200cnot", "family 👩\u200d👧, joined\u200cnot"),
    ],
)
def test_what_hides_is_spelled_out(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(TEXTS)
def test_nothing_hides_and_nothing_is_lost(text: str) -> None:
    shown = visible(text)
    assert {unicodedata.category(c) for c in shown if c not in "\n\t\u200c\u200d"}.isdisjoint(
        {"Cc", "Cf", "Cs", "Zl", "Zp"}
    )
    shown.encode("utf-8")
    kept = [c for c in text if unicodedata.category(c)[0] not in "CZ"]
    assert len([c for c in shown if c in kept]) >= len(kept)
