"""What every torch engine offers: scores of completions, their gradients, and samples.

An engine knows tokens, not problems, contexts or rewards.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fastslow.engine.divergence import Distributions
from fastslow.engine.head import TokenScores, score_logits
from fastslow.engine.sampling import Decoder, OnTurn, SamplingLimits, ignore, sample
from fastslow.types import TokenSequence, Turn


class PassScores(NamedTuple):
    """What one forward pass gave.

    Attributes:
        indices: the sequences that were scored, as indices into the batch.
        scores: of their scored tokens, flat, sequence after sequence in the order of indices.
        tokens: tokens that went through the model for it.
        divergences: of the same tokens, from the distributions that they were held against: see
            ``divergence``. None where there are none.
    """

    indices: list[int]
    scores: TokenScores
    tokens: int
    divergences: Tensor | None = None


class Against(NamedTuple):
    """Distributions that a batch's own are held against, and how closely: see ``divergence``."""

    distributions: Distributions
    top: int | None = None


class Comparison(NamedTuple):
    """Of one sequence's n scored tokens, in nats.

    Attributes:
        scores: under the engine's model.
        reference: [n] log-probabilities under the distributions it is held against.
        divergences: [n] KL of the model's next-token distribution from those.
    """

    scores: TokenScores
    reference: Tensor
    divergences: Tensor


class Engine(ABC):
    """Runs one model. The model is in evaluation mode: dropout would make ratios meaningless.

    Args:
        model: with weights in fp32 or bf16; log-probabilities are fp32 either way.
        tokens_per_pass: of one forward and backward pass, at most.
    """

    def __init__(self, model: PreTrainedModel, tokens_per_pass: int) -> None:
        self.model = model
        self.tokens_per_pass = tokens_per_pass

    @property
    def device(self) -> torch.device:
        return self.model.device

    def weights_changed(self) -> None:  # noqa: B027
        """Forget what was computed with the weights. To be called after every change of them."""

    def round_to(self, dtype: torch.dtype, keep: Callable[[str], bool]) -> None:
        """Hold the weights in this type, those excepted whose names ``keep`` picks.

        Buffers stay as they are: rotary frequencies in bf16 would blur positions.
        """
        for name, parameter in self.model.named_parameters():
            if not keep(name):
                parameter.data = parameter.data.to(dtype)

    @abstractmethod
    def passes(
        self,
        sequences: Sequence[TokenSequence],
        temperature: float,
        against: Against | None = None,
    ) -> Iterator[PassScores]:
        """Score all sequences in passes of at most ``tokens_per_pass`` tokens.

        With gradients enabled the caller calls ``backward`` on a loss made of each pass before it
        asks for the next; when the iteration ends, all gradients have reached the parameters.
        Memory does not grow with the batch.
        """

    @abstractmethod
    def distributions(self, sequences: Sequence[TokenSequence]) -> Distributions:
        """The distributions from which the scored tokens would be drawn, as of now: they are of
        use until weights change."""

    @abstractmethod
    def decoder(
        self, prompts: Sequence[Sequence[int]], counts: Sequence[int], limits: SamplingLimits
    ) -> Decoder:
        """What samples these prompts, each so many times, token by token."""

    @torch.no_grad()
    def score(self, sequences: Sequence[TokenSequence], temperature: float) -> list[TokenScores]:
        """Scores of each sequence's scored tokens, without gradient, in the batch's order."""
        scored: dict[int, TokenScores] = {}
        for indices, scores, *_ in self.passes(sequences, temperature):
            start = 0
            for index in indices:
                tokens = slice(start, start := start + len(sequences[index].scored))
                scored[index] = TokenScores(scores.logprobs[tokens], scores.entropies[tokens])
        return [scored[index] for index in range(len(sequences))]

    @torch.no_grad()
    def compare(
        self, sequences: Sequence[TokenSequence], reference: Distributions, temperature: float
    ) -> list[Comparison]:
        """Hold the model against other distributions at the same tokens, in the batch's order."""
        compared: dict[int, Comparison] = {}
        for indices, scores, _, divergences in self.passes(
            sequences, temperature, Against(reference)
        ):
            assert divergences is not None
            logits = reference.at(indices)
            start = 0
            for index in indices:
                tokens = slice(start, start := start + len(sequences[index].scored))
                targets = torch.tensor(sequences[index].targets, device=self.device)
                compared[index] = Comparison(
                    TokenScores(scores.logprobs[tokens], scores.entropies[tokens]),
                    score_logits(logits(tokens), targets, temperature).logprobs,
                    divergences[tokens],
                )
        return [compared[index] for index in range(len(sequences))]

    @torch.no_grad()
    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[Sequence[int]],
        limits: SamplingLimits,
        rows: int,
        on_turn: OnTurn = ignore,
    ) -> list[list[Turn]]:
        """Sample ``len(seeds[u])`` completions of each prompt u, at most ``rows`` side by side.

        A completion depends on its prompt and its seed, not on what is sampled beside it.
        ``on_turn`` is told of completions as they end and may raise to stop the sampling.
        """
        decoder = self.decoder(prompts, list(map(len, seeds)), limits)
        return sample(decoder, prompts, seeds, limits, rows, self.device, on_turn)


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
