"""From hidden states to log-probabilities, never holding [tokens, vocabulary] for a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK = 256
"""Tokens whose logits exist at one time: 50 MB of fp32 at a vocabulary of 49,152."""

Head = Callable[[Tensor], Tensor]
"""[N, hidden] to [N, vocabulary] logits."""


@dataclass(frozen=True)
class TokenScores:
    """Of N completion tokens, in nats.

    Attributes:
        logprobs: [N] log pi(y_t | x, phi, y_<t) at the sampling temperature, fp32.
        entropies: [N] entropy of the distribution that each token was drawn from, without gradient.
    """

    logprobs: Tensor
    entropies: Tensor


def score_tokens(head: Head, hidden: Tensor, targets: Tensor, temperature: float) -> TokenScores:
    """Log-probabilities of ``targets`` [N] after ``hidden`` [N, H], chunk by chunk.

    With gradients enabled, a chunk's logits are computed again in the backward pass instead of
    being kept.
    """
    logprobs, entropies = [], []
    for start in range(0, len(targets), CHUNK):
        piece = hidden[start : start + CHUNK], targets[start : start + CHUNK]
        if torch.is_grad_enabled():
            scored = checkpoint(_score_chunk, head, *piece, temperature, use_reentrant=False)
        else:
            scored = _score_chunk(head, *piece, temperature)
        logprobs.append(scored[0])
        entropies.append(scored[1])
    return TokenScores(torch.cat(logprobs), torch.cat(entropies))


def _score_chunk(
    head: Head, hidden: Tensor, targets: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    logits = head(hidden).float()
    if temperature != 1:  # one pass over [chunk, vocabulary] less
        logits = logits / temperature
    normaliser = logits.logsumexp(dim=-1)
    logprobs = logits.gather(-1, targets[:, None])[:, 0] - normaliser
    with torch.no_grad():
        detached = logits.detach()
        probabilities = (detached - normaliser.detach()[:, None]).exp_()
        entropies = normaliser.detach() - (probabilities * detached).sum(dim=-1)
    return logprobs, entropies
