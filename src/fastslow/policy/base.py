"""The policy as the loop sees it: samplers of fixed weights, and the trainer that makes them.

Nothing here says where the weights are. A model on this machine implements both protocols, and so
can a server.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fastslow.slow.anomalies import Anomaly
from fastslow.slow.base import Reader, SlowLearner
from fastslow.types import Datum, TokenSequence, Turn

OnTurn = Callable[[int, int, Turn], None]
"""Receives a turn as soon as it ends: the index of its request, the index of its seed, the turn."""


def ignore(request: int, seed: int, turn: Turn) -> None:
    """An ``OnTurn`` that does nothing."""


@dataclass(frozen=True)
class SampleRequest:
    """One prompt, and a seed for each completion that is wanted of it."""

    prompt_ids: tuple[int, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Drift:
    """How far the policy is from its base on one sequence with n scored tokens, in nats.

    Attributes:
        logprobs: [n] log pi_train of the tokens.
        base_logprobs: [n] log pi_base of the tokens.
        divergences: [n] KL(pi_train || pi_base) over the vocabulary; None where the backend gives
            log-probabilities of sampled tokens only.
        entropies: [n] entropies of pi_train; None likewise.
    """

    logprobs: tuple[float, ...]
    base_logprobs: tuple[float, ...]
    divergences: tuple[float, ...] | None
    entropies: tuple[float, ...] | None


class Sampler(Reader, Protocol):
    """pi_theta(y | x, phi) with one version of the weights theta, which never change under it.

    A sampler whose weights are gone, since the trainer has moved on, raises RuntimeError.
    """

    @property
    def version(self) -> int:
        """Number of updates that the weights have seen."""

    def count_tokens(self, text: str) -> int:
        """Length of a text in tokens, without any template."""

    def sample(
        self,
        requests: Sequence[SampleRequest],
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        on_turn: OnTurn = ignore,
    ) -> list[list[Turn]]:
        """Sample one turn for each seed of each request, in the order of the seeds.

        All requests of a call are in flight together. ``on_turn`` receives every turn once, as it
        ends, in any order; what it raises ends the sampling.
        """

    def logprobs(
        self, sequences: Sequence[TokenSequence], *, base: bool = False
    ) -> list[list[float]]:
        """log pi of each sequence's scored tokens in nats, under these weights or under those that
        training began from."""

    def drift(self, sequences: Sequence[TokenSequence]) -> list[Drift]:
        """These weights against those that training began from, at the temperature of sampling."""


@dataclass(frozen=True)
class StepResult:
    """What became of one training step.

    Attributes:
        measures: by their metric names; empty where nothing was updated.
        refused: why no update was made of the data. Weights and optimiser are as they were.
    """

    measures: dict[str, Any] = field(default_factory=dict)
    refused: Anomaly | None = None

    @property
    def updated(self) -> bool:
        """Whether the weights moved."""
        return bool(self.measures)


class Trainer(Protocol):
    """The weights that move."""

    def sampler(self) -> Sampler:
        """Publish the present weights. The sampler computes what a sampler of a trainer would that
        loads what ``save`` writes now, bit for bit."""

    def step(self, data: Sequence[Datum], learner: SlowLearner) -> StepResult:
        """One gradient step on ``data`` with the learner's loss; no data make no update."""

    def save(self, folder: Path) -> None:
        """Write weights, optimiser state and version into an existing, empty folder."""

    def load(self, folder: Path) -> None:
        """Go on from what ``save`` wrote. Raises: InputError, RunError if it is not whole."""

    def discard(self, folder: Path) -> None:
        """Forget what belongs to a checkpoint but is kept elsewhere: the folder is about to be
        removed."""

    def close(self) -> None:
        """Give back what is held elsewhere."""
