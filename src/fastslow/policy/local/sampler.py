"""One version of the local weights, to sample from and to score with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from fastslow.config import PolicyConfig
from fastslow.engine.base import Engine
from fastslow.engine.divergence import Distributions, TokenLogits
from fastslow.engine.sampling import SamplingLimits
from fastslow.policy.base import Drift, OnTurn, SampleRequest, ignore
from fastslow.policy.chat import ChatTemplate
from fastslow.policy.local.memory import in_parts
from fastslow.types import Context, TokenSequence, Turn


class Weights(Protocol):
    """The backend's side of a sampler: the engine, as long as it runs the sampler's weights."""

    def engine(self, generation: int) -> Engine:
        """The engine. Raises: RuntimeError, if its weights have moved on since ``generation``."""

    def base(self, generation: int) -> AbstractContextManager[Engine]:
        """The engine with the weights that training began from, as long as the context lasts."""


class LocalSampler:
    """A ``Sampler`` of the weights of one generation.

    Args:
        weights: of the backend.
        generation: number of the present weights.
        version: updates that they have seen.
        chat: renders prompts.
        config: the ``[policy]`` table.
        limits: of completions, unless ``sample`` is given others.
        window: tokens of prompt and completion together, at most.
    """

    gives_distributions = True

    def __init__(
        self,
        weights: Weights,
        generation: int,
        version: int,
        chat: ChatTemplate,
        config: PolicyConfig,
        limits: SamplingLimits,
        window: int,
    ) -> None:
        self._weights = weights
        self._generation = generation
        self._chat = chat
        self._config = config
        self._limits = limits
        self.version = version
        self.window = window

    @property
    def max_tokens(self) -> int:
        return self._limits.max_tokens

    def encode(self, context: Context, question: str) -> tuple[int, ...]:
        return self._chat.encode(context.messages(question))

    def count_tokens(self, text: str) -> int:
        return self._chat.count(text)

    def sample(
        self,
        requests: Sequence[SampleRequest],
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        on_turn: OnTurn = ignore,
    ) -> list[list[Turn]]:
        engine = self._engine
        limits = SamplingLimits(
            max_tokens=max_tokens or self._limits.max_tokens,
            stop_ids=self._limits.stop_ids,
            temperature=temperature or self._limits.temperature,
            stops=self._limits.stops,
            decode=self._limits.decode,
        )
        ended: dict[tuple[int, int], Turn] = {}

        def end(request: int, seed: int, turn: Turn) -> None:
            if (request, seed) not in ended:  # else it ended before memory ran out
                ended[request, seed] = turn
                on_turn(request, seed, turn)

        def sample(parts: int) -> None:
            if parts > 1:
                engine.weights_changed()  # prefixes that are kept take memory too
            engine.sample(
                [request.prompt_ids for request in requests],
                [request.seeds for request in requests],
                limits,
                max(1, self._config.rows // parts),
                end,
            )

        in_parts(sample, "sampling")
        return [
            [ended[number, seed] for seed in range(len(request.seeds))]
            for number, request in enumerate(requests)
        ]

    def logprobs(
        self, sequences: Sequence[TokenSequence], *, base: bool = False
    ) -> list[list[float]]:
        if base:
            with self._base() as engine:
                scores = engine.score(sequences, self._limits.temperature)
        else:
            scores = self._engine.score(sequences, self._limits.temperature)
        return [score.logprobs.tolist() for score in scores]

    def drift(self, sequences: Sequence[TokenSequence]) -> list[Drift]:
        with self._base() as engine:
            base = _OfBase(self._base, engine.distributions(sequences))
        compared = self._engine.compare(sequences, base, self._limits.temperature)
        return [
            Drift(
                tuple(scores.logprobs.tolist()),
                tuple(reference.tolist()),
                tuple(divergences.tolist()),
                tuple(scores.entropies.tolist()),
            )
            for scores, reference, divergences in compared
        ]

    @property
    def _engine(self) -> Engine:
        return self._weights.engine(self._generation)

    def _base(self) -> AbstractContextManager[Engine]:
        return self._weights.base(self._generation)


class _OfBase:
    """Distributions of the base, which may be computed when they are asked for."""

    def __init__(
        self, base: Callable[[], AbstractContextManager[Engine]], distributions: Distributions
    ) -> None:
        self._base = base
        self._distributions = distributions

    def at(self, indices: Sequence[int]) -> TokenLogits:
        with self._base():
            return self._distributions.at(indices)
