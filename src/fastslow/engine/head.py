"""From hidden states to log-probabilities, never holding [tokens, vocabulary] for a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fastslow.engine.linear import linear

CHUNK = 512
"""Rows whose logits exist at one time: 100 MB of fp32 at a vocabulary of 49,152."""

_CACHED = 16
"""Rows of logits that go through elementwise operations together: 3 MB at that vocabulary."""


@dataclass(frozen=True)
class TokenScores:
    """Of N scored tokens, in nats.

    Attributes:
        logprobs: [N] log pi(y_t | x, phi, y_<t) at the sampling temperature, fp32.
        entropies: [N] entropy of the distribution that each token was drawn from, without gradient.
    """

    logprobs: Tensor
    entropies: Tensor


def score_logits(logits: Tensor, targets: Tensor, temperature: float) -> TokenScores:
    """The plain reference: scores of ``targets`` [N] under ``logits`` [N, V]."""
    logprobs = (logits.float() / temperature).log_softmax(dim=-1)
    entropies = -(logprobs.exp() * logprobs).sum(dim=-1)
    return TokenScores(logprobs.gather(-1, targets[:, None])[:, 0], entropies.detach())


def score_tokens(
    head: nn.Linear, hidden: Tensor, rows: Tensor, targets: Tensor, temperature: float
) -> TokenScores:
    """Scores of tokens whose distributions may be shared, chunk by chunk.

    The backward pass computes logits again, except where they are a single chunk, which is kept.

    Args:
        head: hidden states to logits; the product is taken in fp32 whatever the weights' type.
        hidden: [M, hidden] states, one for each distribution.
        rows: [N] which of them each token was drawn from.
        targets: [N] token ids.
        temperature: of the distributions.
    """
    rows, order = rows.sort(stable=True)
    logprobs, entropies = _Scores.apply(  # type: ignore[no-untyped-call]
        hidden, head.weight, head.bias, rows, targets[order], temperature
    )
    place = order.argsort()
    return TokenScores(logprobs[place], entropies[place])


class _Scores(torch.autograd.Function):
    """log pi and entropies; the gradient of log pi by hand: onehot - softmax, over temperature."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        rows: Tensor,
        targets: Tensor,
        temperature: float,
    ) -> tuple[Tensor, Tensor]:
        logprobs = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        row_entropies = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        normalisers = torch.empty_like(row_entropies)
        probabilities = None
        for piece, tokens in _chunks(len(hidden), rows):
            logits = _scaled(hidden[piece], weight, bias, temperature)
            chosen = logits[rows[tokens] - piece.start, targets[tokens]]
            normalisers[piece], row_entropies[piece] = _normalise(logits)
            logprobs[tokens] = chosen - normalisers[rows[tokens]]
            probabilities = logits
        ctx.temperature = temperature
        ctx.kept = probabilities if len(hidden) <= CHUNK and any(ctx.needs_input_grad) else None
        ctx.save_for_backward(hidden, weight, bias, rows, targets, normalisers)
        entropies = row_entropies[rows]
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, rows, targets, normalisers = ctx.saved_tensors
        gradient = gradients[0]
        sums = HeadGradients(hidden, weight, bias)
        for piece, tokens in _chunks(len(hidden), rows):
            if ctx.kept is None:
                to_logits = _scaled(hidden[piece], weight, bias, ctx.temperature)
                to_logits -= normalisers[piece, None]
                to_logits.exp_()
            else:  # used up: the probabilities become the gradient in place
                to_logits, ctx.kept = ctx.kept, None
            row = rows[tokens] - piece.start
            scale = torch.zeros(len(to_logits), device=hidden.device)
            scale.index_add_(0, row, gradient[tokens])
            to_logits *= -scale[:, None]
            to_logits.index_put_((row, targets[tokens]), gradient[tokens], accumulate=True)
            if ctx.temperature != 1:
                to_logits /= ctx.temperature
            sums.add(piece, to_logits)
        return *sums.all(), None, None, None


class HeadGradients:
    """Gradients of hidden states [M, hidden] and of the head, summed in fp32 chunk by chunk."""

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        self._hidden, self._weight, self._bias = hidden, weight, bias
        self._to_hidden = torch.empty_like(hidden)
        self._to_weight = _zeros_if_trained(weight)
        self._to_bias = _zeros_if_trained(bias)

    def add(self, piece: slice, to_logits: Tensor) -> None:
        """Take in the gradient [n, V] of the logits of these states."""
        self._to_hidden[piece] = linear(to_logits, self._weight.float().t())
        if self._to_weight is not None:
            self._to_weight.addmm_(to_logits.t(), self._hidden[piece].float())
        if self._to_bias is not None:
            self._to_bias += to_logits.sum(dim=0)

    def all(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Of hidden states, weight and bias, in the type of each; None of what is not trained."""
        return (
            self._to_hidden,
            None if self._to_weight is None else self._to_weight.to(self._weight.dtype),
            None
            if self._bias is None or self._to_bias is None
            else self._to_bias.to(self._bias.dtype),
        )


def _zeros_if_trained(parameter: Tensor | None) -> Tensor | None:
    if parameter is None or not parameter.requires_grad:
        return None
    return torch.zeros_like(parameter, dtype=torch.float32)


def logits_of(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """[N, V] logits in fp32, whatever the weights' type; without gradient."""
    return linear(hidden.float(), weight.float(), None if bias is None else bias.float())


def _scaled(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float) -> Tensor:
    logits = logits_of(hidden, weight, bias)
    return logits if temperature == 1 else logits.div_(temperature)


def _normalise(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Turn logits [n, V] into probabilities in place; their normalisers and entropies, [n] each.

    On a CPU a few rows at a time, so that what is between stays in its cache.
    """
    normalisers, entropies = [], []
    for rows in logits.split(_CACHED if logits.device.type == "cpu" else len(logits)):
        normaliser = rows.logsumexp(dim=-1)
        logprobs = rows.sub_(normaliser[:, None])
        probabilities = logprobs.exp()
        entropies.append(-torch.linalg.vecdot(probabilities, logprobs))
        normalisers.append(normaliser)
        rows.copy_(probabilities)
    return torch.cat(normalisers), torch.cat(entropies)


def _chunks(count: int, rows: Tensor) -> list[tuple[slice, slice]]:
    """Runs of distributions with the runs of tokens that were drawn from them."""
    starts = torch.arange(0, count, CHUNK, device=rows.device)
    firsts = [*torch.searchsorted(rows, starts).tolist(), len(rows)]
    return [
        (slice(start, min(start + CHUNK, count)), slice(first, after))
        for start, first, after in zip(starts.tolist(), firsts[:-1], firsts[1:], strict=True)
    ]
