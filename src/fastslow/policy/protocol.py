"""The policy: slow weights behind an interface that says nothing of where they are.

A local model implements it, and so can a server of the Tinker API: sampling with log-probabilities,
an update from a batch and a loss name, publishing weights, saving and loading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fastslow.slow.base import Loss
from fastslow.types import Completion, Context, Datum


@dataclass(frozen=True)
class SampleRequest:
    """One prompt, and a seed for each completion that is wanted of it."""

    prompt_ids: tuple[int, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Drift:
    """How one completion of n tokens tells the policy from its base, in nats.

    Attributes:
        logprobs: [n] log pi_train of its tokens.
        base_logprobs: [n] log pi_base of its tokens.
        divergences: [n] KL(pi_train || pi_base) of the distributions that they were drawn from.
        entropies: [n] of pi_train's.
    """

    logprobs: tuple[float, ...]
    base_logprobs: tuple[float, ...]
    divergences: tuple[float, ...]
    entropies: tuple[float, ...]


class Policy(Protocol):
    """pi_theta(y | x, phi)."""

    @property
    def version(self) -> int:
        """Updates that the sampled weights have seen."""

    @property
    def window(self) -> int:
        """Tokens that prompt and completion may have together."""

    @property
    def max_tokens(self) -> int:
        """Tokens of one completion, at most, unless ``sample`` is told otherwise."""

    def encode(self, context: Context, question: str) -> tuple[int, ...]:
        """Token ids of the context and the question in the model's own chat template, up to where
        the answer begins."""

    def count_tokens(self, text: str) -> int:
        """Length of a text in tokens, without any template."""

    def sample(
        self,
        requests: Sequence[SampleRequest],
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        on_finished: Callable[[int], None] = lambda count: None,
    ) -> list[list[Completion]]:
        """Completions of each request, in the order of its seeds.

        The limits are the policy's own unless given. ``on_finished`` is told of completions as they
        end; what it raises ends the sampling.
        """

    def logprobs(
        self,
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
        *,
        base: bool = False,
    ) -> list[list[float]]:
        """log pi of each completion's tokens in nats, under the current weights or the base's."""

    def update(
        self, data: Sequence[Datum], loss: Loss, *, top: int | None = None
    ) -> Mapping[str, float]:
        """One gradient step; returns measures by their metric names. ``data`` is not empty.

        Args:
            data: the batch.
            loss: of its sampled tokens; its gradient may flow through their log-probabilities and
                through their divergences from the data's teachers.
            top: likeliest tokens that those divergences tell apart; None: all.

        Raises:
            AnomalyError: its numbers allow none. The policy is as it was.
        """

    def drift(self, completions: Sequence[Completion]) -> list[Drift]:
        """The current weights held against those that training began from, at the temperature of
        sampling."""

    def publish(self) -> None:
        """From now on, sample from the updated weights, bit for bit as a policy would that loads
        what ``save`` writes now."""

    def save(self, folder: Path) -> None:
        """Write weights, optimiser state and version into an existing, empty folder."""

    def load(self, folder: Path) -> None:
        """Go on from what ``save`` wrote."""
