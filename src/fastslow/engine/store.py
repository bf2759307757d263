"""Keys and values of prefixes, kept while the weights stand still.

All calls of a fast phase ask a few contexts again and again: each is computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fastslow.engine.attention import KeyValues
from fastslow.engine.tree import common_length


@dataclass(eq=False)
class Stretch:
    """Tokens with their keys and values, which follow those of ``parent``.

    Attributes:
        start: position of the first token.
        used: when it was last asked for; larger is later.
    """

    tokens: tuple[int, ...]
    start: int
    key_values: KeyValues
    parent: Stretch | None = None
    children: list[Stretch] = field(default_factory=list)
    used: int = 0

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)


class PrefixStore:
    """A radix tree of stretches. Those that were longest unused go when ``capacity`` is exceeded.

    Args:
        capacity: tokens, at most.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.tokens = 0
        self._roots: list[Stretch] = []
        self._clock = 0

    def clear(self) -> None:
        """Forget everything: the weights have changed."""
        self._roots, self.tokens = [], 0

    def match(self, tokens: Sequence[int]) -> list[Stretch]:
        """The stretches that these tokens begin with, as far as the store goes.

        A stretch of which only the first tokens match is cut in two.
        """
        self._clock += 1
        path: list[Stretch] = []
        siblings, position = self._roots, 0
        while position < len(tokens):
            child = next((c for c in siblings if c.tokens[0] == tokens[position]), None)
            if child is None:
                break
            length = common_length(child.tokens, tokens[position:])
            if length < len(child.tokens):
                _cut(child, length)
            child.used = self._clock
            path.append(child)
            siblings, position = child.children, child.end
        return path

    def add(
        self, parent: Stretch | None, tokens: tuple[int, ...], key_values: KeyValues
    ) -> Stretch:
        """Keep what follows ``parent``, nothing of which is in the store yet."""
        start = parent.end if parent else 0
        stretch = Stretch(tokens, start, key_values, parent, used=self._clock)
        (parent.children if parent else self._roots).append(stretch)
        self.tokens += len(tokens)
        return stretch

    def trim(self, capacity: int) -> bool:
        """Forget the longest unused stretches until ``capacity`` tokens are left.

        Returns:
            Whether any had to go.
        """
        is_over = self.tokens > capacity
        while self.tokens > capacity:
            leaves = [s for s in self._all() if not s.children]
            oldest = min(leaves, key=lambda stretch: stretch.used)
            (oldest.parent.children if oldest.parent else self._roots).remove(oldest)
            self.tokens -= len(oldest.tokens)
        return is_over

    def _all(self) -> list[Stretch]:
        found = list(self._roots)
        for stretch in found:  # grows while it is read
            found += stretch.children
        return found


def _cut(stretch: Stretch, length: int) -> None:
    """Keep ``length`` tokens in the stretch and put the rest into a child of it.

    Both get copies: as long as either is kept, views would keep the memory of both.
    """
    rest = Stretch(
        stretch.tokens[length:],
        stretch.start + length,
        stretch.key_values.part(length, len(stretch.tokens)).copy(),
        stretch,
        stretch.children,
        stretch.used,
    )
    for child in rest.children:
        child.parent = rest
    stretch.key_values = stretch.key_values.part(0, length).copy()
    stretch.tokens, stretch.children = stretch.tokens[:length], [rest]
