from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastslow.report.edits import Piece, edit_between, fold, words_between
from fastslow.types import Context, Demonstration

SENTENCES = st.lists(st.sampled_from(["the", "answer ", "is\n", "  so", "<b>", "x"])).map(" ".join)


@given(SENTENCES | st.text(), SENTENCES | st.text())
def test_the_pieces_hold_both_texts(before: str, after: str) -> None:
    pieces = words_between(before, after)
    assert "".join(p.text for p in pieces if p.change != "added") == before
    assert "".join(p.text for p in pieces if p.change != "removed") == after


def test_words_are_marked() -> None:
    assert words_between("Give the answer now.", "Give the final answer now.") == (
        Piece("same", "Give the "),
        Piece("added", "final "),
        Piece("same", "answer now."),
    )
    assert words_between("", "") == ()
    assert words_between("gone", "") == (Piece("removed", "gone"),)


def test_long_stretches_without_a_change_are_folded() -> None:
    words = [f"w{n} " for n in range(200)]
    text = "".join(words)
    pieces = fold(words_between(text + "old", text + "new"))
    assert [(p.change, p.folded) for p in pieces] == [
        ("same", 176),
        ("same", 0),
        ("removed", 0),
        ("added", 0),
    ]
    assert pieces[1].text == "".join(words[-24:])
    between = fold(words_between("a " + text + "b", "c " + text + "d"))
    folds = [p for p in between if p.folded]
    assert [p.folded for p in folds] == [200 - 48]
    assert between[between.index(folds[0]) - 1].text == "".join(words[:24])
    assert fold(words_between(text, text))[0].text == "".join(words[:24])
    short = words_between("few words", "few words more")
    assert fold(short) == short


def turn(question: str, answer: str = "1") -> Demonstration:
    return Demonstration(question, answer)


def test_demonstrations_are_kept_changed_added_and_removed() -> None:
    parent = Context("Same.", (turn("a"), turn("b"), turn("c")))
    child = Context("Same.", (turn("a"), turn("c", "2"), turn("d")))
    edit = edit_between(parent, child)
    assert edit.instructions == (Piece("same", "Same."),)
    assert [(d.change, d.question) for d in edit.demonstrations] == [
        ("same", "a"),
        ("removed", "b"),
        ("changed", "c"),
        ("added", "d"),
    ]
    assert edit.demonstrations[2].answer == (Piece("removed", "1"), Piece("added", "2"))
    assert edit.demonstrations[3].answer == (Piece("same", "1"),)


def test_a_demonstration_that_moved_was_removed_and_added() -> None:
    edit = edit_between(Context("", (turn("a"), turn("b"))), Context("", (turn("b"), turn("a"))))
    assert sorted((d.change, d.question) for d in edit.demonstrations) in (
        [("added", "a"), ("removed", "a"), ("same", "b")],
        [("added", "b"), ("removed", "b"), ("same", "a")],
    )
