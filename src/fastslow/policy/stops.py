"""Texts that end a completion."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class StopStrings:
    """Whether tokens, sampled one by one, have just completed one of these texts.

    Args:
        texts: none of them empty.
        decode: from token ids to text.
    """

    def __init__(self, texts: Sequence[str], decode: Callable[[Sequence[int]], str]) -> None:
        self._texts = tuple(texts)
        self._decode = decode
        # Every token but a piece of a character adds one at least, and a character has up to four
        # pieces. So many tokens hold a whole stop text, wherever the last of them ends.
        self._tokens = 4 * max(map(len, texts)) + 4

    def __call__(self, tokens: Sequence[int]) -> bool:
        text = self._decode(tokens[-self._tokens :])
        return any(stop in text for stop in self._texts)
