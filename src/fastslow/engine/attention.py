"""Attention of rows over a prefix that they share, held once, and over tokens of their own.

Registered with transformers as an attention function, so that it serves any model that calls its
attention through that interface. What a forward pass needs beside the model's own arguments (the
shared prefixes, the rows' caches) travels in an ``AttentionPass``, current while the pass runs.

Shapes: R rows, S new tokens per row, H query heads, J key-value heads, D head size, P prefix
length, L length of a row's own keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

NAME = "fastslow_shared_prefix"


@dataclass
class KeyValues:
    """Keys and values of one prefix, a tensor [J, P, D] per layer."""

    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    @property
    def length(self) -> int:
        """P."""
        return self.keys[0].shape[1]


@dataclass(frozen=True)
class RowGroup:
    """Rows ``start`` to ``stop`` of the batch, which continue the same prefix (None: none)."""

    start: int
    stop: int
    prefix: KeyValues | None = None


class RowCache:
    """Keys and values of the rows' own tokens while they are decoded, [R, J, L, D] per layer.

    Rows have different lengths: row r's tokens stand at 0 .. lengths[r]-1, what follows is unused.
    """

    def __init__(self, keys: list[Tensor], values: list[Tensor], lengths: Tensor) -> None:
        self.keys = keys
        self.values = values
        self.lengths = lengths
        self.longest = int(lengths.max())

    def reserve(self) -> None:
        """Make sure that one more token fits into every row; capacity doubles when used up."""
        capacity = self.keys[0].shape[2]
        if self.longest < capacity:
            return
        for tensors in (self.keys, self.values):
            for layer, tensor in enumerate(tensors):
                tensors[layer] = torch.nn.functional.pad(tensor, (0, 0, 0, capacity))

    def advance(self) -> None:
        """Count the token that every layer has written to every row."""
        self.lengths = self.lengths + 1
        self.longest += 1

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order; a row may be named more than once."""
        for tensors in (self.keys, self.values):
            for layer, tensor in enumerate(tensors):
                tensors[layer] = tensor.index_select(0, rows)
        self.lengths = self.lengths.index_select(0, rows)
        self.longest = int(self.lengths.max())

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write one token per row behind its last; returns the keys and values that are in use."""
        rows = torch.arange(key.shape[0], device=key.device)
        self.keys[layer][rows, :, self.lengths] = key[:, :, 0]
        self.values[layer][rows, :, self.lengths] = value[:, :, 0]
        used = self.longest + 1
        return self.keys[layer][:, :, :used], self.values[layer][:, :, :used]


@dataclass
class AttentionPass:
    """What the attention of one forward pass reads and leaves behind.

    Attributes:
        groups: a partition of the rows, in order.
        cache: the rows' own earlier tokens, when decoding one token per row. Without it the S new
            tokens are all of the row's own; rows are padded on the right, where causality already
            keeps padding from being read.
        recorded: keys and values of the new tokens, [R, J, S, D] per layer, if ``record``.
        windowed: whether any layer asked for a sliding window.
    """

    groups: Sequence[RowGroup]
    cache: RowCache | None = None
    record: bool = False
    recorded: KeyValues = field(default_factory=KeyValues)
    windowed: bool = False

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float,
        window: int | None = None,
        softcap: float | None = None,
    ) -> Tensor:
        """[R, S, H, D] attention output for queries [R, H, S, D], keys and values [R, J, S, D]."""
        self.windowed |= window is not None
        if self.record:
            self.recorded.keys.append(key)
            self.recorded.values.append(value)
        if self.cache is not None:
            key, value = self.cache.append(layer, key, value)
            positions = self.cache.lengths[:, None]
        else:
            positions = torch.arange(query.shape[2], device=query.device)[None, :]
        outputs = []
        for group in self.groups:
            rows = slice(group.start, group.stop)
            where = positions if self.cache is None else positions[rows]
            q, k, v = query[rows], key[rows], value[rows]
            longest = key.shape[2] + (group.prefix.length if group.prefix else 0)
            group_window = window if window is not None and window < longest else None
            if group.prefix is None and self.cache is None and not group_window and not softcap:
                outputs.append(
                    scaled_dot_product_attention(
                        q, k, v, is_causal=True, scale=scale, enable_gqa=True
                    )
                )
            else:
                shared = _layer(group.prefix, layer) if group.prefix else None
                outputs.append(_attend_both(q, k, v, where, shared, scale, group_window, softcap))
        return torch.cat(outputs).transpose(1, 2)


def _layer(prefix: KeyValues, layer: int) -> tuple[Tensor, Tensor]:
    return prefix.keys[layer], prefix.values[layer]


def _attend_both(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    positions: Tensor,
    shared: tuple[Tensor, Tensor] | None,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """Softmax over the shared prefix and the rows' own tokens together; [R, H, S, D].

    The prefix is multiplied once for all rows and all query heads of a key-value head, instead of
    being copied to every row. ``positions`` [R or 1, S] counts the queries from the prefix's end.
    """
    rows, heads, length, size = query.shape
    kv_heads, own = key.shape[1], key.shape[2]
    per_kv = heads // kv_heads
    # [R, J, H/J * S, D]: the queries that read the same keys side by side.
    q = (query * scale).reshape(rows, kv_heads, per_kv * length, size)

    index = torch.arange(own, device=query.device)
    distance = positions[:, :, None] - index  # [R or 1, S, L]
    hidden = distance < 0
    if window is not None:
        hidden = hidden | (distance >= window)
    scores = q @ key.transpose(-1, -2)
    scores = _cap(scores, softcap).view(rows, kv_heads, per_kv, length, own)
    scores = scores.masked_fill(hidden[:, None, None], float("-inf"))
    if shared is None:
        weights = _softmax(scores, query.dtype).view(rows, kv_heads, per_kv * length, own)
        return (weights @ value).view(rows, heads, length, -1)

    shared_key, shared_value = shared
    prefix = shared_key.shape[1]
    flat = q.transpose(0, 1).reshape(kv_heads, rows * per_kv * length, size)
    shared_scores = _cap(flat @ shared_key.transpose(-1, -2), softcap)
    shared_scores = shared_scores.view(kv_heads, rows, per_kv, length, prefix).transpose(0, 1)
    if window is not None:
        back = positions[:, :, None] + prefix - torch.arange(prefix, device=query.device)
        shared_scores = shared_scores.masked_fill((back >= window)[:, None, None], float("-inf"))
    weights = _softmax(torch.cat([shared_scores, scores], dim=-1), query.dtype)
    shared_weights, own_weights = weights[..., :prefix], weights[..., prefix:]
    flat = shared_weights.transpose(0, 1).reshape(kv_heads, rows * per_kv * length, prefix)
    output = (flat @ shared_value).view(kv_heads, rows, per_kv * length, -1).transpose(0, 1)
    own_weights = own_weights.reshape(rows, kv_heads, per_kv * length, own)
    output = output + own_weights @ value
    return output.reshape(rows, heads, length, -1)


def _cap(scores: Tensor, softcap: float | None) -> Tensor:
    return scores if softcap is None else torch.tanh(scores / softcap) * softcap


def _softmax(scores: Tensor, dtype: torch.dtype) -> Tensor:
    return scores.softmax(dim=-1, dtype=torch.float32).to(dtype)


_current: ContextVar[AttentionPass] = ContextVar("fastslow_attention_pass")


@contextmanager
def running(attention_pass: AttentionPass) -> Iterator[AttentionPass]:
    """Make ``attention_pass`` the one that the model's attention layers read."""
    token = _current.set(attention_pass)
    try:
        yield attention_pass
    finally:
        _current.reset(token)


def shared_prefix_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The attention function in the form that transformers calls."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer = module.layer_idx
    assert isinstance(layer, int)
    output = _current.get().attend(layer, query, key, value, scale, sliding_window, softcap)
    return output, None


def register() -> None:
    """Make the attention function known to transformers under ``NAME``; may be called again."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, shared_prefix_attention)
