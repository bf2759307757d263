"""The key-value cache of completions under way: one slot a row, all layers in one tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastslow.engine.attention import KeyValues

_PAGE = 32
"""Tokens by which slots grow, at least."""


class RowCache:
    """Keys and values of what each row does not share, [layers, slots, J, capacity, D].

    Rows lie in slots 0 to R - 1. Row r's tokens stand at 0 to lengths[r] - 1 of its slot; what
    follows is unused.

    Args:
        like: keys and values of the model's shapes.

    Attributes:
        lengths: [R] tokens in each slot.
    """

    def __init__(self, like: KeyValues) -> None:
        self._like = like
        self.lengths = torch.zeros(0, dtype=torch.long, device=like.keys[0].device)
        self._keys: Tensor | None = None
        self._values: Tensor | None = None
        self._capacity = 0

    @property
    def rows(self) -> int:
        return len(self.lengths)

    @property
    def longest(self) -> int:
        return int(self.lengths.max()) if self.rows else 0

    @property
    def slots(self) -> int:
        """Slots that memory is taken for."""
        return 0 if self._keys is None else self._keys.shape[1]

    def append(
        self, source: KeyValues, places: Sequence[Sequence[int]], slots: int, capacity: int
    ) -> None:
        """Add rows: row by row, the places in ``source`` of its tokens.

        There may come to be ``slots`` rows, each of up to ``capacity`` tokens. Memory is taken as
        tokens come, and never for more than that.
        """
        lengths = torch.tensor(list(map(len, places)), device=self.lengths.device)
        longest = int(lengths.max())
        padded = [[*p, *[0] * (longest - len(p))] for p in places]
        index = torch.tensor(padded, dtype=torch.long, device=self.lengths.device)
        before = self.rows
        self._capacity = capacity
        used = max(longest, self.longest)
        if self.slots != slots or not used <= self._length <= capacity:
            self._resize(slots, used)
        for target, layers in ((self._keys, source.keys), (self._values, source.values)):
            assert target is not None
            for layer, tensor in enumerate(layers):
                taken = tensor[:, index].transpose(0, 1)
                target[layer, before : before + len(places), :, :longest] = taken
        self.lengths = torch.cat([self.lengths, lengths])

    def keep(self, slots: Sequence[int]) -> list[int]:
        """Go on with the rows in these slots; a slot named more than once is copied.

        There are no more of them than slots.

        Returns:
            The slot of each, among the first ``len(slots)``.
        """
        count = len(slots)
        if not count:  # the next rows may need another shape
            self._keys = self._values = None
        claimed: set[int] = set()
        placed = [-1] * count
        for number, slot in enumerate(slots):
            if slot < count and slot not in claimed:
                claimed.add(slot)
                placed[number] = slot
        free = (slot for slot in range(count) if slot not in claimed)
        moves = [(number, next(free)) for number in range(count) if placed[number] < 0]
        if moves:
            used = self.longest
            sources = torch.tensor([slots[number] for number, _ in moves])
            targets = torch.tensor([slot for _, slot in moves])
            sources, targets = sources.to(self.lengths.device), targets.to(self.lengths.device)
            for tensor in (self._keys, self._values):
                assert tensor is not None
                tensor[:, targets, :, :used] = tensor[:, sources, :, :used]
            lengths = self.lengths.new_zeros(max(count, self.rows))
            lengths[: self.rows] = self.lengths
            lengths[targets] = self.lengths[sources]
            self.lengths = lengths
            for number, slot in moves:
                placed[number] = slot
        self.lengths = self.lengths[:count].clone()
        return placed

    def reserve_token(self) -> None:
        """Make sure that one more token fits into every slot."""
        if self.longest == self._length:
            self._resize(self.slots, self.longest)

    def write(self, layer: int, key: Tensor, value: Tensor, used: int) -> tuple[Tensor, Tensor]:
        """Put [R, J, D] behind each row's last token; returns [R, J, used, D] keys and values."""
        assert self._keys is not None
        assert self._values is not None
        rows = torch.arange(self.rows, device=key.device)
        self._keys[layer][rows, :, self.lengths] = key
        self._values[layer][rows, :, self.lengths] = value
        return self._keys[layer, : self.rows, :, :used], self._values[layer, : self.rows, :, :used]

    def advance(self) -> None:
        """Count the token that every layer has written to every row."""
        self.lengths = self.lengths + 1

    @property
    def _length(self) -> int:
        """Tokens for which every slot has memory."""
        return 0 if self._keys is None else self._keys.shape[3]

    def _resize(self, slots: int, used: int) -> None:
        """Give slots memory for the tokens that are ``used`` and some more; rows stay."""
        length = min(used + max(_PAGE, used // 2), self._capacity)
        rows = slice(self.rows)

        def resized(before: Tensor | None, like: Tensor) -> Tensor:
            heads, _, size = like.shape
            after = like.new_zeros(len(self._like.keys), slots, heads, length, size)
            if before is not None:
                kept = slice(min(length, before.shape[3]))
                after[:, rows, :, kept] = before[:, rows, :, kept]
            return after

        self._keys = resized(self._keys, self._like.keys[0])
        self._values = resized(self._values, self._like.values[0])
