"""The attention function that whole transformers models call, and what one pass of it reads.

Registered with transformers under a name, so that it serves any model that calls its attention
through that interface. What a forward pass needs beside the model's own arguments travels in a
``ForwardPass``, current while the pass runs.

Shapes: N tokens, H query heads, J key-value heads, D and E head sizes of keys and values.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from fastslow.engine.kernels import Scoring

NAME = "fastslow_prefix_tree"


@dataclass
class KeyValues:
    """Keys and values of a stretch of P tokens, a tensor [J, P, D] per layer."""

    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def part(self, start: int, stop: int) -> KeyValues:
        """Of tokens ``start`` to ``stop``, as views."""
        return KeyValues(
            [tensor[:, start:stop] for tensor in self.keys],
            [tensor[:, start:stop] for tensor in self.values],
        )

    def copy(self) -> KeyValues:
        """The same in memory of its own."""
        return KeyValues([k.clone() for k in self.keys], [v.clone() for v in self.values])


class Earlier(NamedTuple):
    """Keys and values that an earlier pass computed, and the positions at which they lie."""

    key_values: KeyValues
    start: int
    stop: int


class ForwardPass(Protocol):
    """What the attention layers of one forward pass ask.

    Attributes:
        windowed: whether a layer has asked for a sliding window.
    """

    windowed: bool

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scoring: Scoring,
        window: int | None,
    ) -> Tensor:
        """[B, S, H, E] of queries [B, H, S, D], keys [B, J, S, D] and values [B, J, S, E]."""


_current: ContextVar[ForwardPass] = ContextVar("fastslow_forward_pass")


@contextmanager
def running(forward_pass: ForwardPass) -> Iterator[None]:
    """Make ``forward_pass`` the one that the model's attention layers ask."""
    token = _current.set(forward_pass)
    try:
        yield
    finally:
        _current.reset(token)


def prefix_tree_attention(
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
    scoring = Scoring(query.shape[-1] ** -0.5 if scaling is None else scaling, softcap)
    layer = module.layer_idx
    assert isinstance(layer, int)
    forward_pass = _current.get()
    forward_pass.windowed |= sliding_window is not None
    return forward_pass.attend(layer, query, key, value, scoring, sliding_window), None


def register() -> None:
    """Make the attention function known to transformers under ``NAME``; may be called again."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, prefix_tree_attention)
