"""What changed between two contexts: words of the instructions, and whole demonstrations."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import takewhile
from typing import Literal

from fastslow.types import Context, Demonstration

Change = Literal["same", "added", "removed"]

_WORD = re.compile(r"\S+\s*|\s+")
"""A word with the space behind it, so that spaces alone never match across a text."""

_MAX_WORK = 1_000_000
"""Comparisons of one diff, at most: some hundredths of a second. Words that repeat make it cubic in
their number, and a page shows hundreds of contexts."""

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


@lru_cache(maxsize=4096)
def edit_between(parent: Context, child: Context) -> Edit:
    """What turns ``parent`` into ``child``."""
    return Edit(
        fold(words_between(parent.instructions, child.instructions)),
        _demonstrations(parent.demonstrations, child.demonstrations),
    )


def words_between(before: str, after: str) -> tuple[Piece, ...]:
    """Both texts in one: joined, the pieces that are not "added" give ``before`` and those that
    are not "removed" give ``after``, exactly.

    Words are matched; where that could take more than ``_MAX_WORK``, whole lines; where that could
    too, the texts as they are.
    """
    for split in _SPLITS:
        old, new = split(before), split(after)
        head = _shared(old, new)
        tail = _shared(old[head:][::-1], new[head:][::-1])
        ours, theirs = old[head : len(old) - tail], new[head : len(new) - tail]
        if _work(ours, theirs) <= _MAX_WORK:
            break
    changes: list[tuple[Change, list[str]]] = [("same", old[:head])]
    for kind, a, b, c, d in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        if kind == "equal":
            changes.append(("same", ours[a:b]))
        else:
            changes += [("removed", ours[a:b]), ("added", theirs[c:d])]
    changes.append(("same", old[len(old) - tail :]))
    return tuple(Piece(change, "".join(words)) for change, words in changes if words)


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _whole_text(text: str) -> list[str]:
    return [text] if text else []


_SPLITS: tuple[Callable[[str], list[str]], ...] = (_WORD.findall, _lines, _whole_text)
"""What a text is taken apart into, the finest first."""


def _work(old: Sequence[str], new: Sequence[str]) -> int:
    """Comparisons that matching takes at most: every pair of equal words, once a match."""
    ours, theirs = Counter(old), Counter(new)
    pairs = sum(count * theirs[word] for word, count in ours.items())
    return pairs * min(len(old), len(new))


def _shared(old: Sequence[str], new: Sequence[str]) -> int:
    """How many words both begin with in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))


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
    """Turns are matched by their questions in order: one that moved was removed and added. Of too
    many that ask the same, every one was."""
    edits: list[DemonstrationEdit] = []
    asked, asks = [d.question for d in before], [d.question for d in after]
    if _work(asked, asks) > _MAX_WORK:
        return (*(_whole("removed", old) for old in before), *(_whole("added", d) for d in after))
    matcher = SequenceMatcher(None, asked, asks, autojunk=False)
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
