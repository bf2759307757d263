"""The plain engine: every sequence computed whole, in padded batches, by the model as it comes.

It is the reference that the shared-prefix engine is tested against, and it serves models whose
attention cannot be shared. It keeps no cache: sampling computes a whole row again for every token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fastslow.engine.base import Against, Engine, PassScores, batches_by_tokens
from fastslow.engine.divergence import TokenLogits, divergence_of_logits
from fastslow.engine.head import score_logits
from fastslow.engine.sampling import Decoder, SamplingLimits
from fastslow.types import TokenSequence


class PaddedEngine(Engine):
    """Serves every causal language model of transformers, slowly."""

    def passes(
        self,
        sequences: Sequence[TokenSequence],
        temperature: float,
        against: Against | None = None,
    ) -> Iterator[PassScores]:
        order = sorted(range(len(sequences)), key=lambda i: len(sequences[i].tokens))
        lengths = [len(sequences[i].tokens) for i in order]
        for run in batches_by_tokens(lengths, self.tokens_per_pass):
            indices = [order[position] for position in run]
            some = [sequences[i] for i in indices]
            predictions = self.predictions(some)
            targets = torch.tensor(
                [token for sequence in some for token in sequence.targets], device=self.device
            )
            scores = score_logits(predictions, targets, temperature)
            divergence = None
            if against is not None:
                reference = against.distributions.at(indices)(slice(None))
                divergence = divergence_of_logits(predictions, reference, temperature, against.top)
            yield PassScores(
                indices, scores, sum(len(sequence.tokens) for sequence in some), divergence
            )

    def distributions(self, sequences: Sequence[TokenSequence]) -> _Recomputed:
        """Nothing is kept: logits are computed when they are asked for."""
        return _Recomputed(self, sequences)

    def predictions(self, sequences: Sequence[TokenSequence]) -> Tensor:
        """[N, V] logits from which the scored tokens are predicted, sequence by sequence."""
        logits = self._logits([sequence.tokens for sequence in sequences])
        # The token at position t is predicted at position t - 1.
        places = [
            torch.tensor([position - 1 for position in sequence.scored], device=self.device)
            for sequence in sequences
        ]
        return torch.cat([row[place] for row, place in zip(logits, places, strict=True)])

    def decoder(
        self, prompts: Sequence[Sequence[int]], counts: Sequence[int], limits: SamplingLimits
    ) -> Decoder:
        return _PaddedDecoder(self, prompts)

    def _logits(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """[R, S, V] logits of rows padded on the right to the longest, S."""
        longest = max(map(len, rows))
        tokens = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        output = self.model(
            input_ids=tokens.to(self.device),
            attention_mask=mask.to(self.device),
            use_cache=False,
        )
        logits: Tensor = output.logits
        return logits


class _Recomputed:
    """Distributions of some sequences under the engine's weights."""

    def __init__(self, engine: PaddedEngine, sequences: Sequence[TokenSequence]) -> None:
        self._engine = engine
        self._sequences = sequences

    @torch.no_grad()
    def at(self, indices: Sequence[int]) -> TokenLogits:
        logits = self._engine.predictions([self._sequences[i] for i in indices]).float()
        return lambda tokens: logits[tokens]


class _PaddedDecoder:
    """Keeps the rows as plain tokens."""

    def __init__(self, engine: PaddedEngine, prompts: Sequence[Sequence[int]]) -> None:
        self._engine = engine
        self._prompts = prompts
        self._rows: list[list[int]] = []

    def order(self) -> Sequence[int]:
        return range(len(self._prompts))

    def admit(self, prompts: Sequence[int], completions: Sequence[int], under_way: int) -> Tensor:
        new = [list(self._prompts[index]) for index in prompts]
        self._rows += new
        return self._last_logits(new)

    def keep(self, rows: Sequence[int]) -> None:
        self._rows = [list(self._rows[row]) for row in rows]

    def step(self, tokens: Tensor) -> Tensor:
        for row, token in zip(self._rows, tokens.tolist(), strict=True):
            row.append(token)
        return self._last_logits(self._rows)

    def _last_logits(self, rows: Sequence[Sequence[int]]) -> Tensor:
        logits: list[Tensor] = []
        for run in batches_by_tokens(list(map(len, rows)), self._engine.tokens_per_pass):
            some = [rows[index] for index in run]
            logits += [
                row_logits[len(row) - 1].float()
                for row, row_logits in zip(some, self._engine._logits(some), strict=True)
            ]
        return torch.stack(logits)
