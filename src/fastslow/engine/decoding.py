"""Sampling over the prefix tree: shared stretches are read in place, rows hold only what is theirs.

The prompts of a call form a tree. Of a row's path through it, the stretches that many rows read are
kept once and read by all of them together (trunks); the rest and what is sampled lie in the row's
slot. Stretches that several prompts read are kept for later calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from fastslow.engine.attention import Earlier, ForwardPass, KeyValues
from fastslow.engine.cascade import fold, unfold
from fastslow.engine.kernels import Scoring, Visible, attend
from fastslow.engine.layout import Layout
from fastslow.engine.passes import Block, plan, prune
from fastslow.engine.rows import RowCache
from fastslow.engine.sampling import SamplingLimits
from fastslow.engine.store import PrefixStore
from fastslow.engine.tree import Node, grow, measure, split

_WORTH = 1024
"""Tokens that reading a stretch as a trunk must save over a copy of it in every row: each trunk
costs calls in every layer of every step."""

_SHORTEST = 16
"""Tokens of a stretch that is worth keeping for later calls."""


@dataclass
class _Stretch:
    """What is known of a node of the call's prompt tree.

    Attributes:
        completions: that read it, in the whole call.
        waiting: completions of those that are not begun yet.
        is_trunk: whether rows read it in place.
        is_kept: whether it is kept for later calls.
        is_stored: whether the store holds it by now.
        key_values: once computed, for as long as prompts that read it wait.
    """

    completions: int = 0
    waiting: int = 0
    is_trunk: bool = False
    is_kept: bool = False
    is_stored: bool = False
    key_values: KeyValues | None = None


@dataclass(frozen=True)
class _Trunk:
    """Keys and values that rows read in place, and the position of the first."""

    key_values: KeyValues
    start: int
    length: int


@dataclass(frozen=True)
class _Piece:
    """Tokens of a path: positions ``start`` to ``stop`` stand at ``place`` and on of these."""

    start: int
    stop: int
    key_values: KeyValues
    place: int


@dataclass
class _Row:
    """What a slot reads beside itself, and the tokens that it may come to hold."""

    trunks: tuple[_Trunk, ...]
    start: int
    capacity: int


class PrefixEngine(Protocol):
    """What a decoder asks of its engine (see ``shared``).

    Attributes:
        tokens_per_pass: of one forward pass, at most.
        kv_tokens: tokens whose keys and values sampling may hold.
        example: keys and values of one token.
        store: keys and values of prefixes, kept from call to call.
    """

    tokens_per_pass: int
    kv_tokens: int
    example: KeyValues
    store: PrefixStore

    @property
    def device(self) -> torch.device: ...

    def run(
        self, roots: Sequence[Node], above: Sequence[Sequence[Earlier]], *, alone: bool = False
    ) -> tuple[Layout, Tensor, KeyValues]:
        """Compute subtrees, or ``alone`` their topmost nodes only, in one forward pass."""

    def forward(self, tokens: Tensor, positions: Tensor, forward_pass: ForwardPass) -> Tensor:
        """[B, S, hidden] states of [B, S] tokens at [B, S] positions."""

    def logits(self, hidden: Tensor) -> Tensor:
        """[N, V] logits in fp32 after [N, hidden] states."""


class SharedDecoder:
    """A ``Decoder`` over a shared-prefix engine, for the prompts of one call.

    Args:
        engine: it computes, and keeps what later calls can use.
        prompts: of the call.
        counts: completions of each prompt.
        limits: of the completions.
    """

    def __init__(
        self,
        engine: PrefixEngine,
        prompts: Sequence[Sequence[int]],
        counts: Sequence[int],
        limits: SamplingLimits,
    ) -> None:
        self._engine = engine
        self._prompts = [tuple(prompt) for prompt in prompts]
        self._max_tokens = limits.max_tokens
        self._cache = RowCache(engine.example)
        self._rows: list[_Row] = []  # by slot
        self._slots: list[int] = []  # by row
        self._groups: list[tuple[_Trunk, Tensor | None]] | None = None
        roots = grow(self._prompts)
        self._order = [index for root in roots for node in root.walk() for index in node.ends]
        self._leaves: dict[int, Node] = {}
        self._known: dict[Node, _Stretch] = {}
        self._take_from_store(roots, counts)

    def order(self) -> Sequence[int]:
        return self._order

    def admit(
        self, prompts: Sequence[int], completions: Sequence[int], under_way: int
    ) -> Tensor | None:
        room = self._find_room(prompts, completions, under_way)
        if room is None:
            return None
        hidden, computed = self._compute(prompts)
        sources = _Sources()
        places: list[list[int]] = []
        for index, count in zip(prompts, completions, strict=True):
            path = self._leaves[index].path()
            pieces = computed[index]
            pieces += [
                _Piece(node.start, node.end, kv, 0)
                for node in path
                if node.end <= pieces[0].start and (kv := self._known[node].key_values) is not None
            ]
            for node in path:
                self._keep_if_shared(node, index, pieces)
            trunks = tuple(
                _Trunk(kv, node.start, len(node.tokens))
                for node in path
                if self._known[node].is_trunk and (kv := self._known[node].key_values) is not None
            )
            start = trunks[-1].start + trunks[-1].length if trunks else 0
            end = len(self._prompts[index])
            places.append(sources.places(pieces, start, end))
            self._slots.append(len(self._rows))
            self._rows.append(_Row(trunks, start, end - start + self._max_tokens))
            for node in path:
                known = self._known[node]
                known.waiting -= count
                if not known.waiting:
                    known.key_values = None
        self._cache.append(sources.joined(), places, *room)
        self._groups = None
        if self._has_evicted:
            self._look_up()
        return self._engine.logits(torch.stack(hidden))

    def keep(self, rows: Sequence[int]) -> None:
        slots = [self._slots[row] for row in rows]
        if slots == list(range(self._cache.rows)):
            self._slots = slots
            return
        self._slots = self._cache.keep(slots)
        by_slot = dict(zip(self._slots, slots, strict=True))
        self._rows = [self._rows[by_slot[slot]] for slot in range(len(slots))]
        self._groups = None

    def step(self, tokens: Tensor) -> Tensor:
        slots = torch.tensor(self._slots, device=tokens.device)
        placed = torch.empty_like(tokens)
        placed[slots] = tokens
        starts = torch.tensor([row.start for row in self._rows], device=tokens.device)
        self._cache.reserve_token()
        if self._groups is None:
            self._groups = self._group_trunks()
        decode = DecodePass(self._cache, starts, self._groups)
        positions = starts + self._cache.lengths
        hidden = self._engine.forward(placed[:, None], positions[:, None], decode)
        self._cache.advance()
        return self._engine.logits(hidden[:, 0].index_select(0, slots))

    def _take_from_store(self, roots: list[Node], counts: Sequence[int]) -> None:
        """Find what earlier calls have computed, and settle how each stretch is read."""
        store = self._engine.store
        # Twice, since a later prompt may cut what an earlier one has found.
        for prompt in self._prompts:
            store.match(prompt[:-1])
        found = [store.match(prompt[:-1]) for prompt in self._prompts]
        # The output at a prompt's last token is asked for whether or not its keys are known.
        for node in [node for root in roots for node in root.walk()]:
            if node.ends and len(node.tokens) > 1:
                split(node, node.end - 1)
        for node in [node for root in roots for node in root.walk()]:
            self._leaves |= dict.fromkeys(node.ends, node)
        for index, stretches in enumerate(found):
            for stretch in stretches:
                for node in self._leaves[index].path():
                    if node.start < stretch.end < node.end:
                        split(node, stretch.end)
        nodes = [node for root in roots for node in root.walk()]
        self._known = {node: _Stretch() for node in nodes}
        for node in reversed(nodes):  # children come before their parents
            known = self._known[node]
            below = [self._known[child] for child in node.children]
            known.completions = sum(counts[i] for i in node.ends)
            known.completions += sum(child.completions for child in below)
            known.waiting = known.completions
            saved = (known.completions - 1) * len(node.tokens)
            known.is_trunk = saved >= _WORTH or any(child.is_trunk for child in below)
            is_shared = len(node.children) + len(node.ends) > 1
            known.is_kept = (is_shared and len(node.tokens) >= _SHORTEST) or any(
                child.is_kept for child in below
            )
        self._look_up()

    def _look_up(self) -> None:
        """Go by what the store has of the paths, and hold nothing else."""
        self._has_evicted = False
        stored: dict[Node, KeyValues] = {}
        for index, prompt in enumerate(self._prompts):
            path = [n for n in self._leaves[index].path() if self._known[n].waiting]
            for stretch in self._engine.store.match(prompt[:-1]):
                for node in path:
                    if stretch.start <= node.start and node.end <= stretch.end:
                        first, last = node.start - stretch.start, node.end - stretch.start
                        if node not in stored:
                            stored[node] = stretch.key_values.part(first, last)
        for node, known in self._known.items():
            if not known.is_stored or node not in stored:
                known.key_values = stored.get(node)
            known.is_stored = node in stored

    def _find_room(
        self, prompts: Sequence[int], completions: Sequence[int], under_way: int
    ) -> tuple[int, int] | None:
        """Slots and their capacity for these completions too, if memory allows for them.

        For a single completion alone it always does.
        """
        store, budget = self._engine.store, self._engine.kv_tokens
        capacity = max((row.capacity for row in self._rows), default=0)
        for index in prompts:
            path = self._leaves[index].path()
            own = sum(len(node.tokens) for node in path if not self._known[node].is_trunk)
            capacity = max(capacity, own + self._max_tokens)
            store.match(self._prompts[index][:-1])  # what is read now is forgotten last
        shared, beside_store = self._count_shared(prompts)
        rows = under_way + sum(completions)
        slots = max(rows, self._cache.slots)
        if slots * capacity + beside_store + store.tokens > budget:
            slots = rows  # to drop slots means to copy the others
        if slots * capacity + shared > budget and rows > 1:
            return None
        if store.trim(max(0, budget - slots * capacity - beside_store)):
            self._look_up()
            return self._find_room(prompts, completions, under_way)
        return slots, capacity

    def _count_shared(self, prompts: Sequence[int]) -> tuple[int, int]:
        """Tokens that rows and these prompts share, and those of them that the store has not."""
        read = {id(t.key_values): t.length for row in self._rows for t in row.trunks}
        new, stored = 0, set()
        begun = {node for index in prompts for node in self._leaves[index].path()}
        for node, known in self._known.items():
            if known.key_values is None:
                if node in begun and (known.is_trunk or known.is_kept):
                    new += len(node.tokens)
                continue
            if known.is_stored:
                stored.add(id(known.key_values))
            if node in begun or not known.is_stored:
                read[id(known.key_values)] = len(node.tokens)
        shared = sum(read.values()) + new
        return shared, shared - sum(length for kv, length in read.items() if kv in stored)

    def _compute(self, prompts: Sequence[int]) -> tuple[list[Tensor], dict[int, list[_Piece]]]:
        """What the prompts' paths lack: last hidden states, and where the new tokens lie."""
        trees: dict[Node | None, list[Node]] = {}
        fresh: dict[Node, Node] = {}
        for index in prompts:
            parent: Node | None = None
            for node in self._leaves[index].path():
                if self._known[node].key_values is not None and index not in node.ends:
                    continue
                if node not in fresh:
                    fresh[node] = Node(node.tokens, node.start, parent)
                    siblings = parent.children if parent else trees.setdefault(node.parent, [])
                    siblings.append(fresh[node])
                parent = fresh[node]
            fresh[self._leaves[index]].ends.append(index)
        starts = [len(prompt) - 1 for prompt in self._prompts]
        hidden: dict[int, Tensor] = {}
        pieces: dict[int, list[_Piece]] = {}
        for above, roots in trees.items():
            measure(roots)
            blocks = plan(prune(roots), self._engine.tokens_per_pass, starts)
            earlier: list[Earlier] = []
            for node in above.path() if above is not None else []:
                key_values = self._known[node].key_values
                assert key_values is not None
                earlier.append(Earlier(key_values, node.start, node.end))
            self._run(blocks, earlier, {}, hidden, pieces)
        return [hidden[index] for index in prompts], pieces

    def _run(
        self,
        blocks: Sequence[Block],
        above: Sequence[Earlier],
        lying: dict[Node, tuple[KeyValues, int]],
        hidden: dict[int, Tensor],
        pieces: dict[int, list[_Piece]],
    ) -> None:
        """Compute blocks, and note what the prompts that end in them need."""
        for block in blocks:
            layout, states, key_values = self._engine.run(
                block.roots, [above] * len(block.roots), alone=bool(block.below)
            )
            here = lying | {node: (key_values, place) for node, place in layout.place.items()}
            if block.below:
                (node,) = block.roots
                below = [*above, Earlier(key_values, node.start, node.end)]
                self._run(block.below, below, here, hidden, pieces)
                continue
            for node, place in layout.place.items():
                for index in node.ends:
                    hidden[index] = states[place + len(node.tokens) - 1]
                    pieces[index] = [
                        _Piece(part.start, part.end, *here[part]) for part in node.path()
                    ]

    def _keep_if_shared(self, node: Node, index: int, pieces: Sequence[_Piece]) -> None:
        """Give a node that is read in place, or by later calls, keys and values of its own."""
        known = self._known[node]
        if known.key_values is not None or not (known.is_trunk or known.is_kept):
            return
        known.key_values = _copied(pieces, node.start, node.end)
        store = self._engine.store
        if known.is_kept and len(node.tokens) <= store.capacity:
            self._has_evicted |= store.trim(store.capacity - len(node.tokens))
            above = store.match(self._prompts[index][: node.start])
            if (above[-1].end if above else 0) == node.start:
                store.add(above[-1] if above else None, node.tokens, known.key_values)
                known.is_stored = True

    def _group_trunks(self) -> list[tuple[_Trunk, Tensor | None]]:
        """Every trunk with the slots that read it; None for all of them."""
        readers: dict[int, tuple[_Trunk, list[int]]] = {}
        for slot, row in enumerate(self._rows):
            for trunk in row.trunks:
                readers.setdefault(id(trunk.key_values), (trunk, []))[1].append(slot)
        return [
            (
                trunk,
                None
                if len(slots) == len(self._rows)
                else torch.tensor(slots, device=self._engine.device),
            )
            for trunk, slots in readers.values()
        ]


class _Sources:
    """Joins the keys and values that rows are copied from."""

    def __init__(self) -> None:
        self._offsets: dict[int, int] = {}
        self._parts: list[KeyValues] = []
        self._length = 0

    def places(self, pieces: Sequence[_Piece], start: int, stop: int) -> list[int]:
        """Where positions ``start`` to ``stop`` of a path stand among what is joined."""
        places: list[int] = []
        for piece in sorted(pieces, key=lambda piece: piece.start):
            first, last = max(start, piece.start), min(stop, piece.stop)
            if first >= last:
                continue
            if id(piece.key_values) not in self._offsets:
                self._offsets[id(piece.key_values)] = self._length
                self._parts.append(piece.key_values)
                self._length += piece.key_values.keys[0].shape[1]
            place = self._offsets[id(piece.key_values)] + piece.place - piece.start
            places += range(place + first, place + last)
        return places

    def joined(self) -> KeyValues:
        return join(self._parts)


def join(parts: Sequence[KeyValues]) -> KeyValues:
    """Keys and values one behind the other; no layers if there are no parts."""
    if len(parts) == 1:
        return parts[0]
    return KeyValues(
        [torch.cat(layer, dim=1) for layer in zip(*(p.keys for p in parts), strict=True)],
        [torch.cat(layer, dim=1) for layer in zip(*(p.values for p in parts), strict=True)],
    )


def _copied(pieces: Sequence[_Piece], start: int, stop: int) -> KeyValues:
    """A copy of positions ``start`` to ``stop`` alone: a view would keep the whole pass alive."""
    parts = []
    for piece in sorted(pieces, key=lambda piece: piece.start):
        first, last = max(start, piece.start), min(stop, piece.stop)
        if first < last:
            shift = piece.place - piece.start
            parts.append(piece.key_values.part(first + shift, last + shift))
    return parts[0].copy() if len(parts) == 1 else join(parts)


@dataclass
class DecodePass:
    """One new token per row.

    Attributes:
        cache: the rows' own earlier tokens, by slot.
        starts: [R] position of the first token in each slot.
        trunks: what slots read beside their own tokens, with the slots; None for all of them.
        windowed: whether a layer has asked for a sliding window.
    """

    cache: RowCache
    starts: Tensor
    trunks: Sequence[tuple[_Trunk, Tensor | None]]
    windowed: bool = False
    _masks: dict[tuple[int, int | None], Visible | None] = field(default_factory=dict)

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scoring: Scoring,
        window: int | None,
    ) -> Tensor:
        """[R, 1, H, E] of queries [R, H, 1, D], keys [R, J, 1, D] and values [R, J, 1, E]."""
        repeats = query.shape[1] // key.shape[1]
        used = self.cache.longest + 1
        keys, values = self.cache.write(layer, key[:, :, 0], value[:, :, 0], used)
        rows = query[:, :, 0]
        # The query heads of one key head stand as further queries: [R, J, H/J, D].
        own, own_normaliser = attend(
            rows.unflatten(1, (-1, repeats)), keys, values, self._own_read(used, window), scoring
        )
        output, normaliser = own.flatten(1, 2).float(), own_normaliser.flatten(1, 2)
        for number, (trunk, slots) in enumerate(self.trunks):
            mine = rows if slots is None else rows.index_select(0, slots)
            part, part_normaliser = attend(
                fold(mine[None], repeats),
                trunk.key_values.keys[layer][None],
                trunk.key_values.values[layer][None],
                self._trunk_read(number, window, repeats),
                scoring,
            )
            where = slice(None) if slots is None else slots
            before = normaliser[where]
            rest = unfold(part_normaliser[..., None], repeats)[0, ..., 0]
            total = torch.logaddexp(before, rest)
            output[where] = (
                output[where] * (before - total).exp()[..., None]
                + unfold(part, repeats)[0] * (rest - total).exp()[..., None]
            )
            normaliser[where] = total
        return output.to(query.dtype)[:, None]

    def _own_read(self, used: int, window: int | None) -> Visible | None:
        """[R, 1, 1, used]: the tokens in each slot, the new one included."""
        key = -1, window
        if key not in self._masks:
            place = torch.arange(used, device=self.starts.device)
            last = self.cache.lengths[:, None]
            keys = place <= last
            if window is not None:
                keys &= last - place < window
            self._masks[key] = None if bool(keys.all()) else Visible(keys[:, None, None])
        return self._masks[key]

    def _trunk_read(self, number: int, window: int | None, repeats: int) -> Visible | None:
        """[1, 1, n * repeats, P]: the tokens of a trunk that are within the window."""
        if window is None:
            return None
        key = number, window
        if key not in self._masks:
            trunk, slots = self.trunks[number]
            positions = self.starts + self.cache.lengths
            if slots is not None:
                positions = positions.index_select(0, slots)
            place = torch.arange(trunk.length, device=self.starts.device) + trunk.start
            near = (positions[:, None] - place < window).repeat_interleave(repeats, dim=0)
            self._masks[key] = None if bool(near.all()) else Visible(near[None, None])
        return self._masks[key]
