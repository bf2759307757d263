"""What changed between two contexts: words of the instructions, and whole demonstrations."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from fastslow.types import Context, Demonstration

Change = Literal["same", "added", "removed"]

_WORD = re.compile(r"\S+\s*|\s+")
"""A word with the space behind it, so that spaces alone never match across a text."""

_SHOWN = 24
"""Words kept on each side of a change; longer stretches without one are folded."""


@dataclass(frozen=True)
class Piece:
    """A stretch of text that was kept, added or removed. ``folded`` counts words left out of it."""

    change: Change
    text: str
    folded: int = 0


@dataclass(frozen=True)
class DemonstrationEdit:
    """A demonstration, and what became of it.

    Attributes:
        change: "changed" where the question stayed and the answer did not.
        answer: the answer word by word, against the parent's where it changed.
    """

    change: Literal["same", "added", "removed", "changed"]
    question: str
    answer: tuple[Piece, ...]


@dataclass(frozen=True)
class Edit:
    """A context beside its parent."""

    instructions: tuple[Piece, ...]
    demonstrations: tuple[DemonstrationEdit, ...]


def edit_between(parent: Context, child: Context) -> Edit:
    """What turns ``parent`` into ``child``."""
    return Edit(
        fold(words_between(parent.instructions, child.instructions)),
        _demonstrations(parent.demonstrations, child.demonstrations),
    )


def words_between(before: str, after: str) -> tuple[Piece, ...]:
    """Both texts in one: joined, the pieces that are not "added" give ``before`` and those that
    are not "removed" give ``after``, exactly."""
    old, new = _WORD.findall(before), _WORD.findall(after)
    pieces: list[Piece] = []
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            pieces.append(Piece("same", "".join(old[a:b])))
            continue
        if b > a:
            pieces.append(Piece("removed", "".join(old[a:b])))
        if d > c:
            pieces.append(Piece("added", "".join(new[c:d])))
    return tuple(pieces)


def fold(pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
    """The pieces with long unchanged stretches cut down to the words beside a change."""
    folded: list[Piece] = []
    for number, piece in enumerate(pieces):
        words = _WORD.findall(piece.text)
        if piece.change != "same" or len(words) <= 2 * _SHOWN:
            folded.append(piece)
            continue
        head = words[:_SHOWN] if number > 0 else []
        tail = words[-_SHOWN:] if number < len(pieces) - 1 else []
        if not head and not tail:  # nothing changed at all
            head = words[:_SHOWN]
        left_out = len(words) - len(head) - len(tail)
        if head:
            folded.append(Piece("same", "".join(head)))
        folded.append(Piece("same", "", left_out))
        if tail:
            folded.append(Piece("same", "".join(tail)))
    return tuple(folded)


def _demonstrations(
    before: tuple[Demonstration, ...], after: tuple[Demonstration, ...]
) -> tuple[DemonstrationEdit, ...]:
    """Turns are matched by their questions in order: one that moved was removed and added."""
    edits: list[DemonstrationEdit] = []
    matcher = SequenceMatcher(
        None, [d.question for d in before], [d.question for d in after], autojunk=False
    )
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            edits += [_kept(old, new) for old, new in zip(before[a:b], after[c:d], strict=True)]
            continue
        edits += [_whole("removed", old) for old in before[a:b]]
        edits += [_whole("added", new) for new in after[c:d]]
    return tuple(edits)


def _kept(old: Demonstration, new: Demonstration) -> DemonstrationEdit:
    change: Literal["same", "changed"] = "same" if old.answer == new.answer else "changed"
    return DemonstrationEdit(change, new.question, words_between(old.answer, new.answer))


def _whole(change: Literal["added", "removed"], turn: Demonstration) -> DemonstrationEdit:
    return DemonstrationEdit(change, turn.question, (Piece("same", turn.answer),))
