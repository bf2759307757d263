"""Encodes rendered turns as token ids, and prevents texts from forging control tokens.

A *mark* is a control token at its place in a rendered conversation. The *opaque* rendering replaces
every character of the turns' contents by a stand-in that occurs in no token's name. So its marks
are those that the template wrote. Any other mark of the real rendering was forged: a text contains
a token's name, a text and its neighbour form one together, or the tokenizer normalises characters
to one. The encoder cuts a forged mark in two, so that the tokenizer reads it as characters.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from fastslow.errors import InputError

_PRIVATE = range(0xF0000, 0x10FFFE)
"""Code points for private use, which have no meaning in texts."""

_STRETCH = chr(_PRIVATE.stop - 1)
"""Replaces a stretch of content in the search for the template's marks."""


class Mark(NamedTuple):
    """A control token at characters ``start`` to ``end`` of a text."""

    start: int
    end: int
    token: int


class Opaque:
    """Maps each character of some texts, except white space, to a stand-in.

    Args:
        texts: the contents of turns.
        reserved: characters that must not be stand-ins.
    """

    def __init__(self, texts: Iterable[str], reserved: frozenset[str]) -> None:
        characters = sorted(c for c in set().union(*texts) if not c.isspace())
        first = max((ord(c) + 1 for c in reserved if ord(c) in _PRIVATE), default=_PRIVATE.start)
        # The private code points suffice for all characters of any language.
        stand_ins = list(map(chr, _PRIVATE[first - _PRIVATE.start :][: len(characters)]))
        self._hidden = str.maketrans(dict(zip(characters, stand_ins, strict=False)))
        self._shown = str.maketrans(dict(zip(stand_ins, characters, strict=False)))
        some = f"[{stand_ins[0]}-{stand_ins[-1]}]" if stand_ins else r"(?!)"
        self._stretch = re.compile(rf"({some}(?:(?:{some}|\s)*{some})?)")

    def hide(self, text: str) -> str:
        return text.translate(self._hidden)

    def show(self, text: str) -> str:
        """Restore the original characters of ``text``, which keeps its length."""
        return text.translate(self._shown)

    def split(self, text: str) -> list[str]:
        """Split a hidden text into parts: template text and stretches of content, in turn."""
        return self._stretch.split(text)


class MarkedTokenizer:
    """Encodes rendered conversations.

    Args:
        tokenizer: a fast tokenizer of transformers, which returns offset mappings.
        literals: texts that the template itself can write.

    Raises:
        InputError: the tokenizer returns no offset mappings.
    """

    def __init__(self, tokenizer: Any, literals: Iterable[str]) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise InputError(
                f"model: the tokenizer {type(tokenizer).__name__} does not say where its tokens "
                "stand in a text, so turns could be forged: use a model with a tokenizer.json"
            )
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        written = {token for literal in literals for token in self._encode(literal)[0]}
        # White space and single characters are text, even if they are added tokens.
        self._control = {
            token: str(name)
            for token, name in added.items()
            if not str(name).isspace()
            and (name.special or (token in written and len(str(name)) > 1))
        }
        self._line_end = self._encode("\n")[0]
        self._marks_of = lru_cache(maxsize=256)(self.marks)
        self.reserved = frozenset().union(*literals, *map(str, added.values()))
        """Characters that may be part of a mark."""

    def marks(self, text: str) -> list[Mark]:
        """The control tokens that the tokenizer finds in a text."""
        return self._read(text)[1]

    def encode(self, rendered: str, hidden: str, opaque: Opaque) -> tuple[int, ...]:
        """Token ids of a conversation.

        Args:
            rendered: the conversation as the template renders it.
            hidden: the conversation rendered with opaque contents.
            opaque: the stand-ins in ``hidden``.

        If ``rendered`` has the marks of ``hidden``, the tokenizer encodes it as usual. If contents
        make the template write other marks, the conversation is that of ``hidden``.
        """
        shown, wanted = opaque.show(hidden), self._written(opaque.split(hidden))
        ids, found = self._read(rendered)
        is_steered = shown != rendered
        if _tokens(found) == _tokens(wanted) if is_steered else found == wanted:
            return tuple(ids)
        return tuple(self._encode_apart(shown, wanted))

    def _written(self, parts: list[str]) -> list[Mark]:
        """The marks that the template wrote, from the parts of ``Opaque.split``.

        One character replaces each stretch of content, so long contents cost almost no time.
        """
        brief = _STRETCH.join(parts[::2])
        places = [end - 1 for end in accumulate(len(part) + 1 for part in parts[::2])]
        more = [0, *accumulate(len(part) - 1 for part in parts[1::2])]
        return [
            Mark(mark.start + shift, mark.end + shift, mark.token)
            for mark in self._marks_of(brief)
            if _STRETCH not in brief[mark.start : mark.end]
            for shift in [more[bisect_left(places, mark.start)]]
        ]

    def _encode_apart(self, text: str, wanted: list[Mark]) -> Iterator[int]:
        """Token ids of ``text`` with exactly the marks ``wanted``. This cuts the text inside forged
        marks, and around wanted marks that the tokenizer misses because of neighbouring text, until
        all marks are right."""
        cuts = {0, len(text)}
        finished: dict[tuple[int, int], list[int]] = {}
        while len(finished) < len(cuts) - 1:
            pieces = list(pairwise(sorted(cuts)))
            finished = {piece: finished[piece] for piece in pieces if piece in finished}
            for piece in pieces:
                if piece in finished:
                    continue
                ids, found = self._read(text, *piece)
                inside = {mark for mark in wanted if _covers(piece, mark)}
                amiss = inside.symmetric_difference(found)
                new = {
                    cut
                    for mark in amiss
                    for cut in _cuts(mark, whole=mark in inside)
                    if piece[0] < cut < piece[1]
                    and not any(mark.start < cut < mark.end for mark in inside)
                }
                if not new:
                    finished[piece] = self._settle(text[slice(*piece)], ids, found, inside)
                cuts |= new
        for piece in sorted(finished):
            yield from finished[piece]

    def _settle(
        self, piece: str, ids: list[int], found: list[Mark], wanted: set[Mark]
    ) -> list[int]:
        """Token ids of a piece without a further place to cut."""
        if set(found) == wanted:
            return ids
        if wanted:  # a single mark, which the tokenizer does not find by itself
            return _tokens(wanted)
        for text in (piece, "\ufffd"):
            spelled: list[int] = self._tokenizer.encode(
                text, add_special_tokens=False, split_special_tokens=True
            )
            if self._control.keys().isdisjoint(spelled):
                return spelled
        return []

    def _read(
        self, text: str, start: int = 0, end: int | None = None
    ) -> tuple[list[int], list[Mark]]:
        """Token ids and marks of a part of a text. Places of marks count from the text's start."""
        part = text[start:end]
        # SentencePiece adds a blank before a text. A part inside a text must not get one.
        lead = len(self._line_end) if start else 0
        ids, spans = self._encode(f"\n{part}" if lead else part)
        if lead and ids[:lead] == self._line_end:
            ids, spans = ids[lead:], [(first - 1, last - 1) for first, last in spans[lead:]]
        elif lead:
            ids, spans = self._encode(part)
        marks = [
            Mark(start + first, start + last, token)
            for token, (first, last) in zip(ids, spans, strict=True)
            if token in self._control and self._spells(part[first:last], self._control[token])
        ]
        return ids, marks

    def _spells(self, text: str, name: str) -> bool:
        """Whether ``text`` is a token's name, perhaps normalised, with white space around it. Only
        then is the token a mark: unknown text and single bytes may give a control token, too."""
        normalizer = self._tokenizer.backend_tokenizer.normalizer
        if text.strip() == name or normalizer is None:
            return text.strip() == name
        return normalizer.normalize_str(name) in normalizer.normalize_str(text)

    def _encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids of a text, and the start and end of each token in the text."""
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return encoded["input_ids"], encoded["offset_mapping"]


def _tokens(marks: Iterable[Mark]) -> list[int]:
    return [mark.token for mark in marks]


def _covers(piece: tuple[int, int], mark: Mark) -> bool:
    return piece[0] <= mark.start and mark.end <= piece[1]


def _cuts(mark: Mark, *, whole: bool) -> tuple[int, ...]:
    """The places to cut, so that the tokenizer finds a ``whole`` mark or misses a forged one."""
    if whole or mark.end - mark.start == 1:
        return mark.start, mark.end
    return (mark.start + 1,)
