"""The plain engine: every sequence computed whole, in padded batches, by the model as it comes.

It is the reference that the shared-prefix engine is tested against, and it serves models whose
attention cannot be shared. It keeps no cache: sampling computes a whole row again for every token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fastslow.engine.base import Engine, PassScores, TokenSequence, batches_by_tokens
from fastslow.engine.head import Head, score_tokens
from fastslow.engine.sampling import Decoder


class PaddedEngine(Engine):
    """Serves every causal language model of transformers, slowly."""

    def passes(
        self, sequences: Sequence[TokenSequence], temperature: float
    ) -> Iterator[PassScores]:
        order = sorted(range(len(sequences)), key=lambda i: sum(map(len, sequences[i])))
        lengths = [sum(map(len, sequences[i])) for i in order]
        for run in batches_by_tokens(lengths, self.tokens_per_pass):
            indices = [order[position] for position in run]
            tokens = [[*sequences[i].prompt, *sequences[i].completion] for i in indices]
            logits = self._logits(tokens)
            # The token at position t is predicted at position t - 1.
            predictions = torch.cat(
                [
                    row[len(sequences[i].prompt) - 1 : sum(map(len, sequences[i])) - 1]
                    for row, i in zip(logits, indices, strict=True)
                ]
            )
            targets = torch.tensor(
                [token for i in indices for token in sequences[i].completion], device=self.device
            )
            scores = score_tokens(lambda x: x, predictions, targets, temperature)
            yield PassScores(indices, scores, sum(map(len, tokens)))

    def decoding(self) -> tuple[Decoder, Head]:
        return _PaddedDecoder(self), lambda logits: logits

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


class _PaddedDecoder:
    """Keeps the rows as plain tokens."""

    def __init__(self, engine: PaddedEngine) -> None:
        self._engine = engine
        self._rows: list[list[int]] = []

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        self._rows = [list(prompt) for prompt in prompts]
        return self._last_logits()

    def select(self, rows: Tensor) -> None:
        self._rows = [list(self._rows[row]) for row in rows.tolist()]

    def step(self, tokens: Tensor) -> Tensor:
        for row, token in zip(self._rows, tokens.tolist(), strict=True):
            row.append(token)
        return self._last_logits()

    def _last_logits(self) -> Tensor:
        logits: list[Tensor] = []
        for run in batches_by_tokens(list(map(len, self._rows)), self._engine.tokens_per_pass):
            rows = [self._rows[index] for index in run]
            logits += [
                row_logits[len(row) - 1]
                for row, row_logits in zip(rows, self._engine._logits(rows), strict=True)
            ]
        return torch.stack(logits)
