"""Rendered turns as token ids, in which the template's marks are tokens and no text forges one.

A *mark* is a control token where it stands in a rendered conversation. Which marks the template
wrote is read off an *opaque* rendering, in which every character of the turns' contents stands for
itself but is none of those that names of tokens are made of. A mark of the real rendering that is
not there was forged: by a name in a text, by a name that a text and its neighbour make together, or
by characters that the tokenizer normalises to a name. It is cut in two, and read as characters.
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
"""Code points for private use: no text means anything by them."""

_STRETCH = chr(_PRIVATE.stop - 1)
"""Stands for a stretch of content where only the template's marks are looked for."""


class Mark(NamedTuple):
    """A control token at characters ``start`` to ``end`` of a text."""

    start: int
    end: int
    token: int


class Opaque:
    """Stand-ins for the characters of some texts, one for each character, white space excepted.

    Args:
        texts: the contents of turns.
        reserved: characters that are not to be stand-ins.
    """

    def __init__(self, texts: Iterable[str], reserved: frozenset[str]) -> None:
        characters = sorted(c for c in set().union(*texts) if not c.isspace())
        first = max((ord(c) + 1 for c in reserved if ord(c) in _PRIVATE), default=_PRIVATE.start)
        # There are enough for all characters of any language.
        stand_ins = list(map(chr, _PRIVATE[first - _PRIVATE.start :][: len(characters)]))
        self._hidden = str.maketrans(dict(zip(characters, stand_ins, strict=False)))
        self._shown = str.maketrans(dict(zip(stand_ins, characters, strict=False)))
        some = f"[{stand_ins[0]}-{stand_ins[-1]}]" if stand_ins else r"(?!)"
        self._stretch = re.compile(rf"({some}(?:(?:{some}|\s)*{some})?)")

    def hide(self, text: str) -> str:
        return text.translate(self._hidden)

    def show(self, text: str) -> str:
        """``text`` with the characters themselves, of the same length."""
        return text.translate(self._shown)

    def split(self, text: str) -> list[str]:
        """A hidden text as what is no content, a stretch of content, what is none, and so on."""
        return self._stretch.split(text)


class MarkedTokenizer:
    """Encodes rendered conversations.

    Args:
        tokenizer: of transformers, one that says which characters a token was made of.
        literals: what the template can write by itself.

    Raises:
        InputError: the tokenizer does not say that.
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
        # A blank or a single character is text, even if the tokenizer adds it as a token.
        self._control = {
            token: str(name)
            for token, name in added.items()
            if not str(name).isspace()
            and (name.special or (token in written and len(str(name)) > 1))
        }
        self._line_end = self._encode("\n")[0]
        self._marks_of = lru_cache(maxsize=256)(self.marks)
        self.reserved = frozenset().union(*literals, *map(str, added.values()))
        """Characters that may have a part in a mark."""

    def marks(self, text: str) -> list[Mark]:
        """The control tokens that the tokenizer finds in a text."""
        return self._read(text)[1]

    def encode(self, rendered: str, hidden: str, opaque: Opaque) -> tuple[int, ...]:
        """Token ids of a conversation.

        Args:
            rendered: the conversation as the template writes it.
            hidden: the same with opaque contents.
            opaque: of those contents.

        What has the marks of ``hidden`` is encoded as the tokenizer does it. If contents steer the
        template so that the marks are others, the conversation is what ``hidden`` shows.
        """
        shown, wanted = opaque.show(hidden), self._written(opaque.split(hidden))
        ids, found = self._read(rendered)
        is_steered = shown != rendered
        if _tokens(found) == _tokens(wanted) if is_steered else found == wanted:
            return tuple(ids)
        return tuple(self._encode_apart(shown, wanted))

    def _written(self, parts: list[str]) -> list[Mark]:
        """The marks in what ``Opaque.split`` gives: those that the template wrote.

        Each stretch of contents is read as one character, so that it costs next to nothing.
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
        """Token ids with these marks and no others. It cuts where a forged mark stands, and around
        one that a neighbouring text keeps the tokenizer from finding, until nothing is amiss."""
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
        """Token ids of a piece that cannot be cut any further."""
        if set(found) == wanted:
            return ids
        if wanted:  # a whole mark, which the tokenizer does not find where it stands alone
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
        """Token ids and marks of a part of a text, the marks placed as in the whole text."""
        part = text[start:end]
        # SentencePiece puts a blank before the first word of a text, and this may not be the first.
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
        """Whether a token was made of its name, which may be normalised, and white space. A token
        for what the tokenizer does not know, or for a byte, marks nothing elsewhere."""
        normalizer = self._tokenizer.backend_tokenizer.normalizer
        if text.strip() == name or normalizer is None:
            return text.strip() == name
        return normalizer.normalize_str(name) in normalizer.normalize_str(text)

    def _encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids of a text, and the characters that each was made of."""
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return encoded["input_ids"], encoded["offset_mapping"]


def _tokens(marks: Iterable[Mark]) -> list[int]:
    return [mark.token for mark in marks]


def _covers(piece: tuple[int, int], mark: Mark) -> bool:
    return piece[0] <= mark.start and mark.end <= piece[1]


def _cuts(mark: Mark, *, whole: bool) -> tuple[int, ...]:
    """Where to cut, to have the tokenizer find a mark, or keep it from finding one."""
    if whole or mark.end - mark.start == 1:
        return mark.start, mark.end
    return (mark.start + 1,)
