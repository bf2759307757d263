"""How far next-token distributions are from others, over the vocabulary, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fastslow.engine.head import CHUNK, HeadGradients, logits_of

TokenLogits = Callable[[slice], Tensor]
"""Logits [n, V], in fp32, from which a stretch of N scored tokens is predicted."""


class Distributions(Protocol):
    """The next-token distributions at the scored tokens of some sequences, without gradient."""

    def at(self, indices: Sequence[int]) -> TokenLogits:
        """Logits of the scored tokens of these sequences, one behind the other."""


def divergence_of_logits(
    logits: Tensor, reference: Tensor, temperature: float, top: int | None = None
) -> Tensor:
    """The plain definition: KL(p || q) in nats, [N], of p and q that have logits [N, V].

    Args:
        logits: of p, with gradient.
        reference: of q.
        temperature: of both.
        top: None for the whole vocabulary; or the number of tokens, p's likeliest, that are told
            apart: all others count as one. That is never more than the whole divergence (data
            processing inequality), and all of it with ``top`` = V - 1.
    """
    logprobs = (logits.float() / temperature).log_softmax(dim=-1)
    others = (reference.float() / temperature).log_softmax(dim=-1)
    return (logprobs.exp() * _log_ratios(logprobs, others, top)).sum(dim=-1)


def divergences(
    head: nn.Linear, hidden: Tensor, reference: TokenLogits, temperature: float, top: int | None
) -> Tensor:
    """As ``divergence_of_logits``, from hidden states [N, hidden] of p; no [N, V] is ever held.

    The gradient reaches p alone. The backward pass computes logits of both again.
    """
    result: Tensor = _Divergences.apply(  # type: ignore[no-untyped-call]
        hidden, head.weight, head.bias, reference, temperature, top
    )
    return result


class _Divergences(torch.autograd.Function):
    """KL and its gradient by hand: with D = log p - log q, dKL/dlogits = p * (D - KL) over T.

    Of tokens that count as one D is theirs together: where p and q are summed, so is the change.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        reference: TokenLogits,
        temperature: float,
        top: int | None,
    ) -> Tensor:
        result = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        for piece in _pieces(len(hidden)):
            logprobs = _logprobs(logits_of(hidden[piece], weight, bias), temperature)
            ratios = _log_ratios(logprobs, _logprobs(reference(piece), temperature), top)
            result[piece] = torch.linalg.vecdot(logprobs.exp_(), ratios)
        ctx.save_for_backward(hidden, weight, bias, result)
        ctx.reference, ctx.temperature, ctx.top = reference, temperature, top
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, result = ctx.saved_tensors
        gradient = gradients[0]
        sums = HeadGradients(hidden, weight, bias)
        for piece in _pieces(len(hidden)):
            logprobs = _logprobs(logits_of(hidden[piece], weight, bias), ctx.temperature)
            others = _logprobs(ctx.reference(piece), ctx.temperature)
            to_logits = _log_ratios(logprobs, others, ctx.top).sub_(result[piece, None])
            to_logits *= logprobs.exp_()
            to_logits *= (gradient[piece] / ctx.temperature)[:, None]
            sums.add(piece, to_logits)
        return *sums.all(), None, None, None


def _log_ratios(logprobs: Tensor, others: Tensor, top: int | None) -> Tensor:
    """D [N, V] = log p - log q; of all tokens but the ``top`` likeliest, that of their sums."""
    ratios = logprobs - others
    if top is None or top >= logprobs.shape[-1] - 1:
        return ratios
    likeliest = logprobs.topk(top, dim=-1).indices
    rest = _without(logprobs, likeliest) - _without(others, likeliest)
    return rest.expand_as(ratios).scatter(-1, likeliest, ratios.gather(-1, likeliest))


def _without(logprobs: Tensor, left_out: Tensor) -> Tensor:
    """log of the summed probability of all tokens but some, [N, 1]; a log-sum-exp, since 1 - sum
    would round to nothing where the rest is unlikely."""
    return logprobs.scatter(-1, left_out, float("-inf")).logsumexp(dim=-1, keepdim=True)


def _logprobs(logits: Tensor, temperature: float) -> Tensor:
    return (logits if temperature == 1 else logits / temperature).log_softmax(dim=-1)


def _pieces(count: int) -> list[slice]:
    return [slice(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
