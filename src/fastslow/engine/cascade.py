"""Attention over a prefix tree: block by block, merged by log-sum-exp, with an exact gradient.

A cascade: every token reads its own cluster or trunk, then each trunk above it, and the parts are
weighed by their log-sum-exp. A key that many rollouts read gets the sum of their gradients.

Shapes: N tokens, H query heads, J key-value heads (H / J query heads read the same keys), D and E
head sizes of keys and values.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from fastslow.engine.attention import KeyValues
from fastslow.engine.kernels import Scoring, Visible, attend, attend_backward
from fastslow.engine.layout import Clusters, Layout, Run


class TreePass:
    """A forward pass over a layout.

    Args:
        layout: of the tokens.
        outside: keys and values of the earlier passes, by the numbers that the layout knows.

    Attributes:
        recorded: keys and values of all N tokens.
        windowed: whether a layer has asked for a sliding window.
    """

    def __init__(self, layout: Layout, outside: Sequence[KeyValues]) -> None:
        self._layout = layout
        self._outside = outside
        self.recorded = KeyValues()
        self.windowed = False

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scoring: Scoring,
        window: int | None,
    ) -> Tensor:
        """[1, N, H, E] of queries [1, H, N, D], keys [1, J, N, D] and values [1, J, N, E]."""
        self.recorded.keys.append(key[0])
        self.recorded.values.append(value[0])
        outside = [tensor for kv in self._outside for tensor in (kv.keys[layer], kv.values[layer])]
        output: Tensor = _Cascade.apply(  # type: ignore[no-untyped-call]
            self._layout, scoring, self._layout.effective(window), query, key, value, *outside
        )
        return output


class _Block(ABC):
    """Queries of the pass and one set of keys that they all read, as kernels take them.

    ``rows`` tensors are [n, heads, size], a row per token; ``block`` tensors are
    [B, heads, tokens, size].

    Attributes:
        where: the queries' places in the pass.
        keys_where: the keys' places in the pass, or in the earlier one that they come from.
        outside: number of that earlier pass; None for keys of this one.
        visible, causal: as for the kernels.
    """

    where: slice | Tensor
    keys_where: slice | Tensor
    outside: int | None = None
    visible: Visible | None = None
    causal = False

    @abstractmethod
    def queries(self, rows: Tensor) -> Tensor:
        """Block of the queries, of the rows of all N tokens."""

    def gradients(self, rows: Tensor) -> Tensor:
        """Block of the gradients of what the queries gave, zero where no token stands."""
        return self.queries(rows)

    @abstractmethod
    def query_rows(self, block: Tensor) -> Tensor:
        """The rows at ``where``."""

    @abstractmethod
    def keys(self, rows: Tensor) -> Tensor:
        """Block of the keys, of all rows of the pass that they come from."""

    @abstractmethod
    def key_rows(self, block: Tensor) -> Tensor:
        """The rows at ``keys_where``, summed over the query heads that read the same keys."""


class _ClusterBlock(_Block):
    """Clusters side by side."""

    def __init__(self, clusters: Clusters, visible: Visible, repeats: int) -> None:
        self._clusters = clusters
        self._repeats = repeats
        self.visible = visible
        real = clusters.real
        self.where = clusters.places if real is None else clusters.places.index_select(0, real)
        self.keys_where = self.where

    def queries(self, rows: Tensor) -> Tensor:
        return fold(self._side_by_side(rows), self._repeats)

    def gradients(self, rows: Tensor) -> Tensor:
        block = self._side_by_side(rows)
        if self._clusters.real is not None:
            block = block * self._clusters.inside
        return fold(block, self._repeats)

    def query_rows(self, block: Tensor) -> Tensor:
        return self._real_rows(unfold(block, self._repeats))

    def keys(self, rows: Tensor) -> Tensor:
        return self._side_by_side(rows).transpose(1, 2)

    def key_rows(self, block: Tensor) -> Tensor:
        return self._real_rows(block.transpose(1, 2))

    def _side_by_side(self, rows: Tensor) -> Tensor:
        """[C, L, heads, size] of [N, heads, size]."""
        taken = rows.index_select(0, self._clusters.places)
        return taken.view(*self._clusters.shape, *rows.shape[1:])

    def _real_rows(self, block: Tensor) -> Tensor:
        """[n, heads, size] of [C, L, heads, size], without the padding."""
        rows = block.flatten(0, 1)
        return rows if self._clusters.real is None else rows.index_select(0, self._clusters.real)


class _TrunkBlock(_Block):
    """A trunk's own tokens, causally."""

    def __init__(self, start: int, stop: int, visible: Visible | None, repeats: int) -> None:
        self._repeats = repeats
        self.where = self.keys_where = slice(start, stop)
        self.visible = visible
        self.causal = visible is None

    def queries(self, rows: Tensor) -> Tensor:
        return rows[None, self.where].transpose(1, 2)

    def query_rows(self, block: Tensor) -> Tensor:
        return block[0].transpose(0, 1)

    def keys(self, rows: Tensor) -> Tensor:
        return self.queries(rows).repeat_interleave(self._repeats, dim=1)

    def key_rows(self, block: Tensor) -> Tensor:
        return self.query_rows(block.unflatten(1, (-1, self._repeats)).sum(dim=2))


class _RunBlock(_Block):
    """A run of tokens over a trunk; the query heads of one key head stand as further queries."""

    def __init__(self, run: Run, visible: Visible | None, repeats: int) -> None:
        self._repeats = repeats
        self.where = slice(run.start, run.stop)
        self.outside = run.outside
        self.keys_where = slice(run.first, run.last) if run.outside is None else slice(None)
        self.visible = visible

    def queries(self, rows: Tensor) -> Tensor:
        return fold(rows[None, self.where], self._repeats)

    def query_rows(self, block: Tensor) -> Tensor:
        return unfold(block, self._repeats)[0]

    def keys(self, rows: Tensor) -> Tensor:
        return rows[None, self.keys_where].transpose(1, 2)

    def key_rows(self, block: Tensor) -> Tensor:
        return block[0].transpose(0, 1)


def fold(rows: Tensor, repeats: int) -> Tensor:
    """[B, n, H, X] as [B, J, n * H/J, X]: the queries that read the same keys side by side."""
    blocks, count, heads, size = rows.shape
    grouped = rows.reshape(blocks, count, heads // repeats, repeats, size)
    return grouped.transpose(1, 2).flatten(2, 3)


def unfold(block: Tensor, repeats: int) -> Tensor:
    """What ``fold`` was given."""
    blocks, kv_heads, count, size = block.shape
    grouped = block.view(blocks, kv_heads, count // repeats, repeats, size)
    return grouped.transpose(1, 2).flatten(2, 3)


def _own_blocks(layout: Layout, window: int | None, repeats: int) -> Iterator[_Block]:
    """Blocks in which every token reads its surroundings, itself among them; each token once."""
    for number, clusters in enumerate(layout.clusters):
        yield _ClusterBlock(clusters, layout.clusters_read(number, window, repeats), repeats)
    for number, (start, stop) in enumerate(layout.trunks):
        yield _TrunkBlock(start, stop, layout.trunk_reads(number, window), repeats)


def _run_blocks(layout: Layout, window: int | None, repeats: int) -> Iterator[_Block]:
    """Blocks in which tokens read what is above their surroundings."""
    for number, run in enumerate(layout.runs):
        yield _RunBlock(run, layout.run_reads(number, window, repeats), repeats)


def _rows(tensor: Tensor) -> Tensor:
    """[P, heads, size], a row per token, of [heads, P, size]."""
    return tensor.transpose(0, 1)


class _Cascade(torch.autograd.Function):
    """See the module. The backward pass computes scores again, block by block; none are kept."""

    @staticmethod
    def forward(
        ctx: Any,
        layout: Layout,
        scoring: Scoring,
        window: int | None,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *outside: Tensor,
    ) -> Tensor:
        q, k, v = _rows(query[0]), _rows(key[0]), _rows(value[0])
        repeats = q.shape[1] // k.shape[1]
        output = q.new_empty((*q.shape[:2], v.shape[-1]), dtype=torch.float32)
        normaliser = q.new_empty(q.shape[:2], dtype=torch.float32)

        def attended(block: _Block) -> tuple[Tensor, Tensor]:
            keys, values = k, v
            if block.outside is not None:
                keys, values = map(_rows, outside[2 * block.outside : 2 * block.outside + 2])
            part, part_normaliser = attend(
                block.queries(q),
                block.keys(keys),
                block.keys(values),
                block.visible,
                scoring,
                block.causal,
            )
            rows = block.query_rows(part).float()
            return rows, block.query_rows(part_normaliser[..., None])[..., 0]

        for block in _own_blocks(layout, window, repeats):
            output[block.where], normaliser[block.where] = attended(block)
        for block in _run_blocks(layout, window, repeats):
            part, part_normaliser = attended(block)
            before = normaliser[block.where]
            total = torch.logaddexp(before, part_normaliser)
            output[block.where] *= (before - total).exp()[..., None]
            output[block.where] += part * (part_normaliser - total).exp()[..., None]
            normaliser[block.where] = total
        output = output.to(query.dtype)
        ctx.layout, ctx.scoring, ctx.window = layout, scoring, window
        ctx.save_for_backward(query, key, value, output, normaliser, *outside)
        return output[None]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, normaliser, *outside = ctx.saved_tensors
        q, k, v = _rows(query[0]), _rows(key[0]), _rows(value[0])
        repeats = q.shape[1] // k.shape[1]
        to_q, to_k, to_v, *to_outside = (
            torch.zeros_like(tensor) for tensor in (query[0], key[0], value[0], *outside)
        )
        for block in (
            *_own_blocks(ctx.layout, ctx.window, repeats),
            *_run_blocks(ctx.layout, ctx.window, repeats),
        ):
            keys, values, into_keys, into_values = k, v, to_k, to_v
            if block.outside is not None:
                pair = slice(2 * block.outside, 2 * block.outside + 2)
                keys, values = map(_rows, outside[pair])
                into_keys, into_values = to_outside[pair]
            part_q, part_k, part_v = attend_backward(
                block.gradients(gradients[0][0]),
                block.queries(q),
                block.keys(keys),
                block.keys(values),
                block.queries(output),
                block.queries(normaliser[..., None])[..., 0].contiguous(),
                block.visible,
                ctx.scoring,
                block.causal,
            )
            _rows(to_q)[block.where] += block.query_rows(part_q)
            _rows(into_keys)[block.keys_where] += block.key_rows(part_k)
            _rows(into_values)[block.keys_where] += block.key_rows(part_v)
        return None, None, None, to_q[None], to_k[None], to_v[None], *to_outside
