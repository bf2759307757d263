"""How a stretch of the prefix tree lies in one forward pass, and what reads what in it.

All tokens lie one behind the other, depth first and without padding: a node, then all that is below
it. So the readers of a node are one run of tokens, and token i reads token j of the same pass if
j <= i < stop[j], where stop[j] is the place after everything below j's node.

Attention over the tree goes by blocks, never over an N x N mask:

* a *cluster* is a small subtree: its tokens read each other under a mask of its own size, all
  clusters of like length side by side;
* a *trunk* is a node with more below it than a cluster holds: its tokens read themselves causally,
  and everything below reads all of it, without a mask;
* what was computed in an earlier pass is read like a trunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastslow.engine.kernels import Visible
from fastslow.engine.tree import Node

CLUSTER = 128
"""Tokens of a cluster, at most. More would save calls and waste products that a mask hides."""

_LIKE = 0.6
"""Clusters whose length is at least this share of the longest go side by side."""


@dataclass(frozen=True)
class Run:
    """Queries ``start`` to ``stop``, which read a trunk at ``first`` to ``last`` of the pass.

    With ``outside`` the keys are those of an earlier pass: the number that the caller gave them;
    first and last are then their positions in the sequence.
    """

    start: int
    stop: int
    first: int
    last: int
    outside: int | None = None


class Clusters:
    """C clusters of up to L tokens side by side.

    Attributes:
        places: [C * L] place in the pass of each token; the last token's where a cluster is
            shorter.
        real: [n] which of the C * L are tokens; None if all are.
        inside: [C, L, 1, 1] whether they are.
        shape: C, L.
    """

    def __init__(self, spans: Sequence[tuple[int, int]], device: torch.device) -> None:
        starts = torch.tensor([start for start, _ in spans], device=device)
        stops = torch.tensor([stop for _, stop in spans], device=device)
        longest = int((stops - starts).max())
        self.shape = len(spans), longest
        wanted = starts[:, None] + torch.arange(longest, device=device)
        self._inside = wanted < stops[:, None]
        self._places = torch.minimum(wanted, stops[:, None] - 1)
        self.places = self._places.flatten()
        self.inside = self._inside[:, :, None, None]
        inside = self._inside.flatten()
        self.real = None if bool(inside.all()) else inside.nonzero()[:, 0]

    def visible(self, stop: Tensor, positions: Tensor, window: int | None, repeats: int) -> Visible:
        """[C, 1, L * repeats, L]: who reads whom within the clusters, each query so many times."""
        query, key = self._places[:, :, None], self._places[:, None, :]
        keys = (key <= query) & (query < stop[key]) & self._inside[:, None, :]
        if window is not None:
            keys &= positions[query] - positions[key] < window
        return Visible(keys.repeat_interleave(repeats, dim=1)[:, None])


class Layout:
    """One forward pass over N tokens.

    Args:
        roots: subtrees that lie in the pass.
        outside: for each root, the earlier computed stretches that its tokens read: their number
            and the positions at which they start and end.
        alone: whether the roots lie there without what is below them.
        device: of the model.

    Attributes:
        tokens: [1, N] ids.
        positions: [1, N] of each token in its sequences.
        place: the place of each node's first token.
        clusters, trunks, runs: what reads what; see the module.
    """

    def __init__(
        self,
        roots: Sequence[Node],
        outside: Sequence[Sequence[tuple[int, int, int]]],
        alone: bool,
        device: torch.device,
    ) -> None:
        self.place: dict[Node, int] = {}
        tokens: list[int] = []
        positions: list[int] = []
        stop: list[int] = []
        spans: list[tuple[int, int]] = []
        self.trunks: list[tuple[int, int]] = []
        self.runs: list[Run] = []
        readers: dict[tuple[int, int, int], tuple[int, int]] = {}
        for root, read in zip(roots, outside, strict=True):
            begin = len(tokens)
            clustered = 0  # places before this one belong to a cluster
            for node in [root] if alone else root.walk():
                place = len(tokens)
                after = place + len(node.tokens)
                below = after if alone else place + node.size
                self.place[node] = place
                tokens += node.tokens
                positions += range(node.start, node.end)
                stop += [below] * len(node.tokens)
                if place < clustered:
                    continue
                if below - place <= CLUSTER:
                    spans.append((place, below))
                    clustered = below
                    continue
                self.trunks.append((place, after))
                if below > after:
                    self.runs.append(Run(after, below, place, after))
            for stretch in read:
                first, last = readers.get(stretch, (begin, begin))
                if last == begin:  # runs of readers that lie side by side are one
                    readers[stretch] = first, len(tokens)
                else:
                    self._add_outside(stretch, first, last)
                    readers[stretch] = begin, len(tokens)
        for stretch, (first, last) in readers.items():
            self._add_outside(stretch, first, last)
        self.tokens = torch.tensor([tokens], device=device)
        self.positions = torch.tensor([positions], device=device)
        self.clusters = [Clusters(group, device) for group in _of_like_length(spans)]
        self._stop = torch.tensor(stop, device=device)
        self._furthest = max(positions)
        self._masks: dict[tuple[str, int, int | None], Visible | None] = {}

    def _add_outside(self, stretch: tuple[int, int, int], start: int, stop: int) -> None:
        number, first, last = stretch
        self.runs.append(Run(start, stop, first, last, number))

    def effective(self, window: int | None) -> int | None:
        """The sliding window, None where no token of this pass is far enough for it to matter."""
        return None if window is None or window > self._furthest else window

    def clusters_read(self, number: int, window: int | None, repeats: int) -> Visible:
        """The mask of ``clusters[number]``, each query standing ``repeats`` times."""
        key = f"clusters {repeats}", number, window
        if key not in self._masks:
            self._masks[key] = self.clusters[number].visible(
                self._stop, self.positions[0], window, repeats
            )
        mask = self._masks[key]
        assert mask is not None
        return mask

    def trunk_reads(self, number: int, window: int | None) -> Visible | None:
        """The mask of ``trunks[number]`` on itself; None for plain causality."""
        start, stop = self.trunks[number]
        if window is None or window >= stop - start:
            return None
        key = "trunk", number, window
        if key not in self._masks:
            places = torch.arange(stop - start, device=self.positions.device)
            distance = places[:, None] - places
            self._masks[key] = Visible((distance >= 0) & (distance < window))
        return self._masks[key]

    def run_reads(self, number: int, window: int | None, repeats: int) -> Visible | None:
        """The mask of ``runs[number]``, each query standing ``repeats`` times; None for none."""
        if window is None:
            return None
        key = f"run {repeats}", number, window
        if key not in self._masks:
            run = self.runs[number]
            positions = self.positions[0]
            if run.outside is None:
                keys = positions[run.first : run.last]
            else:
                keys = torch.arange(run.first, run.last, device=positions.device)
            distance = positions[run.start : run.stop, None] - keys
            near = (distance < window).repeat_interleave(repeats, dim=0)
            self._masks[key] = None if bool(near.all()) else Visible(near)
        return self._masks[key]


def _of_like_length(spans: Iterable[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Spans in groups of like length, so that little padding is computed in their attention."""
    groups: list[list[tuple[int, int]]] = []
    longest = 0
    for start, stop in sorted(spans, key=lambda span: (span[0] - span[1], span[0])):
        if not groups or stop - start < _LIKE * longest:
            groups.append([])
            longest = stop - start
        groups[-1].append((start, stop))
    return groups
