"""Sampling completions token by token. How hidden states are had is the decoder's matter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fastslow.engine.head import Head


@dataclass(frozen=True)
class SampledTokens:
    """One sampled completion: token ids, log pi of each in nats, and whether it ended by itself."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finished: bool


class Decoder(Protocol):
    """Prompts under way: gives the hidden state after which each row's next token is drawn."""

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """[U, hidden] after each prompt; the decoder then holds U rows."""

    def select(self, rows: Tensor) -> None:
        """Go on with these rows only; a row may be named more than once."""

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token to every row; [R, hidden] after it."""


@dataclass(frozen=True)
class SamplingLimits:
    """When a completion ends: after ``max_tokens``, or with one of ``stop_ids`` (kept in it)."""

    max_tokens: int
    stop_ids: frozenset[int]
    temperature: float


def draw(logits: Tensor, uniforms: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Draw one token per row by inverting the CDF at one uniform number each.

    Nothing is cut off (no top-k, no top-p), so that the log-probabilities are those of the
    distribution that was sampled from and importance ratios have no bias.

    Args:
        logits: [R, V].
        uniforms: [R] in [0, 1), fp32.

    Returns:
        [R] token ids and [R] log-probabilities (fp32, at ``temperature``).
    """
    scaled = logits.float() / temperature
    logprobs = scaled.log_softmax(dim=-1)
    cdf = logprobs.exp().cumsum(dim=-1)
    # The rounded total instead of 1 keeps the target inside.
    targets = uniforms[:, None] * cdf[:, -1:]
    tokens = torch.searchsorted(cdf, targets, right=True)[:, 0].clamp_(max=logits.shape[-1] - 1)
    return tokens, logprobs.gather(-1, tokens[:, None])[:, 0]


def sample(
    decoder: Decoder,
    head: Head,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[Sequence[int]],
    limits: SamplingLimits,
    device: torch.device,
    on_finished: Callable[[int], None] = lambda count: None,
) -> list[list[SampledTokens]]:
    """Sample ``len(seeds[u])`` completions of prompt u, all side by side.

    Each prompt is prefilled once, however many completions it gets. A row that ended is dropped
    from the batch. The random numbers of a completion depend on its seed alone.

    Returns:
        Completions per prompt, in the order of its seeds.
    """
    owners = [u for u, prompt_seeds in enumerate(seeds) for _ in prompt_seeds]
    flat_seeds = [seed for prompt_seeds in seeds for seed in prompt_seeds]
    uniforms = torch.from_numpy(np.stack([_uniforms(s, limits.max_tokens) for s in flat_seeds]))
    tokens_of: list[list[int]] = [[] for _ in owners]
    logprobs_of: list[list[float]] = [[] for _ in owners]
    ended = [False] * len(owners)

    rows = torch.tensor(owners, device=device)
    hidden = decoder.prefill(prompts).index_select(0, rows)
    decoder.select(rows)
    alive = list(range(len(owners)))
    for position in range(limits.max_tokens):
        tokens, logprobs = draw(
            head(hidden), uniforms[alive, position].to(device), limits.temperature
        )
        keep = []
        for row, (index, token, logprob) in enumerate(
            zip(alive, tokens.tolist(), logprobs.tolist(), strict=True)
        ):
            tokens_of[index].append(token)
            logprobs_of[index].append(logprob)
            ended[index] = token in limits.stop_ids
            if not ended[index]:
                keep.append(row)
        if len(keep) < len(alive):
            on_finished(len(alive) - len(keep))
            alive = [alive[row] for row in keep]
            chosen = torch.tensor(keep, device=device, dtype=torch.long)
            tokens = tokens.index_select(0, chosen)
            if alive:
                decoder.select(chosen)
        if not alive or position + 1 == limits.max_tokens:
            break
        hidden = decoder.step(tokens)
    on_finished(len(alive))

    completions = iter(
        SampledTokens(tuple(t), tuple(p), e)
        for t, p, e in zip(tokens_of, logprobs_of, ended, strict=True)
    )
    return [[next(completions) for _ in prompt_seeds] for prompt_seeds in seeds]


def _uniforms(seed: int, count: int) -> np.ndarray:
    """The random numbers of one completion, [count] fp32 in [0, 1)."""
    return np.random.Generator(np.random.Philox(key=seed)).random(count, dtype=np.float32)
