"""A policy opened for a test: backend, trainer and a learner, with the latest sampler at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fastslow.config import PolicyConfig, SlowConfig
from fastslow.policy.local import LocalBackend, LocalSampler
from fastslow.policy.trainer import GradientTrainer
from fastslow.slow.base import SlowLearner
from fastslow.slow.registry import create
from fastslow.types import Datum, TokenSequence, Turn
from one_turn import one_turn


@dataclass
class Opened:
    model: Any
    tokenizer: Any
    backend: LocalBackend
    trainer: GradientTrainer
    learner: SlowLearner

    @classmethod
    def of(
        cls,
        model: Any,
        tokenizer: Any,
        policy: PolicyConfig,
        slow: SlowConfig,
        *,
        trainable: bool = True,
        **options: Any,
    ) -> Opened:
        backend = LocalBackend(model, tokenizer, policy, slow, trainable=trainable, **options)
        learner = create(slow, policy.max_tokens, "test")
        return cls(model, tokenizer, backend, GradientTrainer(backend, slow), learner)

    @property
    def sampler(self) -> LocalSampler:
        """A sampler of the present weights."""
        sampler = self.trainer.sampler()
        assert isinstance(sampler, LocalSampler)
        return sampler

    def step(self, data: Sequence[Datum], learner: SlowLearner | None = None) -> dict[str, Any]:
        """One step that is not refused; its measures."""
        result = self.trainer.step(data, learner or self.learner)
        assert result.refused is None, result.refused
        return result.measures

    def weights(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.model.named_parameters()}


def sequence_of(turn: Turn) -> TokenSequence:
    """The prompt and what was sampled."""
    return TokenSequence.of(turn.read, turn.sampled)


def data_of(turns: Sequence[Turn], version: int = 0) -> list[Datum]:
    """One datum a turn, with advantages of both signs and unequal weights."""
    return [
        one_turn(t.read, t.sampled, t.logprobs, (-1.0) ** i, 1 / (8 * (i + 1)), version)
        for i, t in enumerate(turns)
    ]
