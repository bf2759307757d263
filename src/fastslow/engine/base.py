"""What every torch engine offers: scores of completions, their gradients, and samples.

An engine knows tokens, not problems, contexts or rewards.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from transformers import PreTrainedModel

from fastslow.engine.head import Head, TokenScores
from fastslow.engine.sampling import Decoder, SampledTokens, SamplingLimits, sample


class TokenSequence(NamedTuple):
    """A prompt and its completion as token ids; neither is empty."""

    prompt: Sequence[int]
    completion: Sequence[int]


class PassScores(NamedTuple):
    """What one forward pass gave.

    Attributes:
        indices: the sequences that were scored, as indices into the batch.
        scores: of their completion tokens, flat, sequence after sequence in the order of indices.
        tokens: tokens that went through the model for it.
    """

    indices: list[int]
    scores: TokenScores
    tokens: int


class Engine(ABC):
    """Runs one model. The model is in evaluation mode: dropout would make ratios meaningless."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokens_per_pass: int,
        compute_dtype: torch.dtype = torch.float32,
    ) -> None:
        self.model = model
        self.tokens_per_pass = tokens_per_pass
        self._compute_dtype = compute_dtype

    @property
    def device(self) -> torch.device:
        return self.model.device

    def precision(self) -> torch.autocast:
        """The context in which the model computes in the chosen type, its weights being fp32."""
        return torch.autocast(
            self.device.type,
            dtype=self._compute_dtype,
            enabled=self._compute_dtype != torch.float32,
        )

    @abstractmethod
    def passes(
        self, sequences: Sequence[TokenSequence], temperature: float
    ) -> Iterator[PassScores]:
        """Score all sequences in passes of at most ``tokens_per_pass`` tokens.

        With gradients enabled the caller calls ``backward`` on a loss made of each pass before it
        asks for the next; when the iteration ends, all gradients have reached the parameters.
        Memory does not grow with the batch.
        """

    @abstractmethod
    def decoding(self) -> tuple[Decoder, Head]:
        """A fresh decoder, and the head that turns what it gives into logits."""

    @torch.no_grad()
    def score(self, sequences: Sequence[TokenSequence], temperature: float) -> list[TokenScores]:
        """Scores of each sequence's completion tokens, without gradient, in the batch's order."""
        scored: dict[int, TokenScores] = {}
        with self.precision():
            for indices, scores, _ in self.passes(sequences, temperature):
                start = 0
                for index in indices:
                    tokens = slice(start, start := start + len(sequences[index].completion))
                    scored[index] = TokenScores(scores.logprobs[tokens], scores.entropies[tokens])
        return [scored[index] for index in range(len(sequences))]

    @torch.no_grad()
    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[Sequence[int]],
        limits: SamplingLimits,
        rows: int,
        on_finished: Callable[[int], None] = lambda count: None,
    ) -> list[list[SampledTokens]]:
        """Sample ``len(seeds[u])`` completions of each prompt u, at most ``rows`` side by side.

        Prompts that begin alike are sampled together. ``on_finished`` is told of completions as
        they end and may raise to stop the sampling.
        """
        results: list[list[SampledTokens]] = [[] for _ in prompts]
        for wave in _waves(prompts, seeds, rows):
            decoder, head = self.decoding()
            with self.precision():
                sampled = sample(
                    decoder,
                    head,
                    [prompts[index] for index, _ in wave],
                    [wave_seeds for _, wave_seeds in wave],
                    limits,
                    self.device,
                    on_finished,
                )
            for (index, _), completions in zip(wave, sampled, strict=True):
                results[index] += completions
        return results


def _waves(
    prompts: Sequence[Sequence[int]], seeds: Sequence[Sequence[int]], rows: int
) -> Iterator[list[tuple[int, list[int]]]]:
    """Cut the work into waves of at most ``rows`` completions: (prompt index, seeds) each."""
    wave: list[tuple[int, list[int]]] = []
    room = rows
    for index in sorted(range(len(prompts)), key=lambda i: tuple(prompts[i])):
        left = list(seeds[index])
        while left:
            taken, left = left[:room], left[room:]
            wave.append((index, taken))
            room -= len(taken)
            if not room:
                yield wave
                wave, room = [], rows
    if wave:
        yield wave


def batches_by_tokens(lengths: Sequence[int], budget: int) -> Iterator[range]:
    """Cut rows into consecutive runs whose padded size, rows times longest, stays in the budget.

    A single row longer than the budget is a run of its own.
    """
    start, longest = 0, 0
    for index, length in enumerate(lengths):
        longest = max(longest, length)
        if index > start and (index - start + 1) * longest > budget:
            yield range(start, index)
            start, longest = index, length
    if lengths:
        yield range(start, len(lengths))
