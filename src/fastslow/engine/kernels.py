"""Attention over one block of keys, with what is needed to merge it with other blocks.

``attend`` returns the output and the log-sum-exp of the scores. Blocks merge by these, and
``attend_backward`` needs only the merged ones: with L the log-sum-exp over ALL keys of a query, its
weight on a key of any block is exp(score - L). So every block's gradient is had by itself
(FlashAttention, arXiv 2205.14135, section 3, applied per block).

Shapes: B blocks side by side, H heads, Q queries, K keys, D and E head sizes of keys and values.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_MOST_SCORES = 2**24
"""Scores that the plain path holds at one time: 64 MB in fp32."""


class Visible:
    """Which keys each query of a block reads; made once and used by every layer.

    Args:
        keys: bool, broadcast to [B, H, Q, K].
    """

    def __init__(self, keys: Tensor) -> None:
        self.keys = keys
        self.leaves_none_out = bool(keys.any(dim=-1).all())
        self._addend: Tensor | None = None

    def addend(self, dtype: torch.dtype) -> Tensor:
        """0 where a key is read and -inf where it is not."""
        if self._addend is None or self._addend.dtype != dtype:
            zeros = torch.zeros(self.keys.shape, dtype=dtype, device=self.keys.device)
            self._addend = zeros.masked_fill_(~self.keys, float("-inf"))
        return self._addend


@dataclass(frozen=True)
class Scoring:
    """How a layer scores a key: q . k * scale, bounded by softcap * tanh(. / softcap) if given."""

    scale: float
    softcap: float | None = None


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Visible | None,
    scoring: Scoring,
    causal: bool = False,
) -> tuple[Tensor, Tensor]:
    """Output [B, H, Q, E] and log-sum-exp [B, H, Q] in fp32 of queries over one block of keys.

    Args:
        query: [B, H, Q, D].
        key: [B, H, K, D].
        value: [B, H, K, E].
        visible: which keys each query reads; None for all. A query that reads no key gives zeros
            and -inf.
        scoring: the layer's.
        causal: query i reads keys 0 to i, where Q = K; then ``visible`` is None.
    """
    if _is_fused(query, value, visible, scoring):
        mask = None if visible is None else visible.addend(query.dtype)
        output, normaliser = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, attn_mask=mask, scale=scoring.scale
        )
        return output, normaliser
    outputs, normalisers = [], []
    for part in _parts(query, key):
        scores = _scores(query, key, visible, scoring, causal, part)
        normaliser = scores.logsumexp(dim=-1)
        weights = (scores - _finite(normaliser)[..., None]).exp_()
        outputs.append(weights.to(value.dtype) @ value)
        normalisers.append(normaliser)
    return torch.cat(outputs, dim=2), torch.cat(normalisers, dim=2)


def attend_backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    normaliser: Tensor,
    visible: Visible | None,
    scoring: Scoring,
    causal: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value through this block.

    Args:
        gradient: of the merged output, [B, H, Q, E].
        query, key, value, visible, scoring, causal: as for ``attend``.
        output: the merged output over all blocks, [B, H, Q, E].
        normaliser: the merged log-sum-exp over all blocks, [B, H, Q], fp32.
    """
    if _is_fused(query, value, visible, scoring):
        mask = None if visible is None else visible.addend(query.dtype)
        gradients: tuple[Tensor, Tensor, Tensor] = (
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                gradient,
                query,
                key,
                value,
                output,
                normaliser,
                0.0,
                causal,
                attn_mask=mask,
                scale=scoring.scale,
            )
        )
        return gradients
    to_query = []
    to_key = torch.zeros_like(key, dtype=torch.float32)
    to_value = torch.zeros_like(value, dtype=torch.float32)
    for part in _parts(query, key):
        scores = _scores(query, key, visible, scoring, causal, part)
        weights = (scores - _finite(normaliser[:, :, part])[..., None]).exp()
        into = gradient[:, :, part].float()
        to_value += weights.transpose(-1, -2) @ into
        balance = (into * output[:, :, part].float()).sum(dim=-1, keepdim=True)
        to_scores = weights * (into @ value.float().transpose(-1, -2) - balance)
        if scoring.softcap is not None:  # d tanh(x) = 1 - tanh(x)^2; hidden scores weigh nothing
            bounded = scores.masked_fill(scores.isinf(), 0) / scoring.softcap
            to_scores = to_scores * (1 - bounded.square())
        to_scores *= scoring.scale
        to_query.append((to_scores @ key.float()).to(query.dtype))
        to_key += to_scores.transpose(-1, -2) @ query[:, :, part].float()
    return torch.cat(to_query, dim=2), to_key.to(key.dtype), to_value.to(value.dtype)


def _is_fused(query: Tensor, value: Tensor, visible: Visible | None, scoring: Scoring) -> bool:
    """Whether torch's fused kernel serves: on a CPU, in types that it knows, without a softcap.

    What it makes of a query without any key is not stated, so such blocks take the plain path.
    """
    return (
        query.device.type == "cpu"
        and query.dtype in (torch.float32, torch.bfloat16)
        and query.shape[-1] == value.shape[-1]
        and scoring.softcap is None
        and (visible is None or visible.leaves_none_out)
    )


def _parts(query: Tensor, key: Tensor) -> list[slice]:
    """Runs of queries whose scores fit into memory together."""
    per_query = query.shape[0] * query.shape[1] * key.shape[2]
    step = max(1, _MOST_SCORES // max(1, per_query))
    return [slice(start, start + step) for start in range(0, query.shape[2], step)]


def _scores(
    query: Tensor,
    key: Tensor,
    visible: Visible | None,
    scoring: Scoring,
    causal: bool,
    part: slice,
) -> Tensor:
    """Scores of a run of queries in fp32, -inf where a key is not read."""
    scores = (query[:, :, part].float() * scoring.scale) @ key.float().transpose(-1, -2)
    if scoring.softcap is not None:
        scores = torch.tanh(scores / scoring.softcap) * scoring.softcap
    if causal:
        places = torch.arange(query.shape[2], device=query.device)
        return scores.masked_fill(places[part, None] < places, float("-inf"))
    if visible is None:
        return scores
    keys = visible.keys if visible.keys.shape[-2] == 1 else visible.keys[..., part, :]
    return scores.masked_fill(~keys, float("-inf"))


def _finite(normaliser: Tensor) -> Tensor:
    """Zero in place of the -inf of a query that reads nothing, so that its weights are 0."""
    return normaliser.masked_fill(normaliser.isinf(), 0)
