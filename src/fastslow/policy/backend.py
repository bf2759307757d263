"""What a place for weights has to offer so that ``GradientTrainer`` can train there."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from torch import Tensor

from fastslow.config import RunConfig
from fastslow.engine.base import PassScores
from fastslow.policy.base import Sampler
from fastslow.types import Context, Datum, TokenSequence

Result = TypeVar("Result")

Objective = Callable[[PassScores], Tensor]
"""The loss of one pass, a scalar, from the scores of its sequences. Its gradient flows through the
log-probabilities and through the divergences from the data's teachers."""


class Backend(Protocol):
    """The weights, the optimiser's state, and the gradient that is being accumulated."""

    @property
    def mismatch(self) -> tuple[float, float]:
        """Difference in nats between the log-probabilities of sampling and of the update beyond
        which the trainer warns, and beyond which it stops, unless configured otherwise."""

    def sampler(self, version: int) -> Sampler:
        """Publish the present weights as version ``version``."""

    def attempt(self, work: Callable[[], Result]) -> Result:
        """Return ``work()``. A backend that runs out of memory may call it a second time, with less
        memory per pass."""

    def clear_gradient(self) -> None:
        """Forget the accumulated gradient."""

    def accumulate(
        self, data: Sequence[Datum], objective: Objective, top: int | None = None
    ) -> None:
        """Add the gradient of the sum of ``objective`` over all passes.

        Args:
            data: cut into passes as the backend likes; a pass holds whole sequences.
            objective: called once for each pass, in order. What it raises ends the accumulation.
            top: number of likeliest tokens that divergences from teachers tell apart; None: all.
        """

    def base_logprobs(self, sequences: Sequence[TokenSequence]) -> list[Tensor]:
        """[n] log pi_base of the scored tokens of each sequence in nats."""

    def apply(self, lr: float, max_norm: float) -> float:
        """Clip the accumulated gradient to ``max_norm`` and take one optimiser step.

        Returns:
            The norm before clipping. If it is not finite, nothing has moved.
        """

    def save(self, folder: Path) -> str:
        """Write weights and optimiser state into a folder.

        Returns:
            What the folder holds of the weights, for ``load``.
        """

    def load(self, folder: Path, holds: str) -> None:
        """Take up what ``save`` wrote and said it holds. Raises: InputError, RunError."""

    def discard(self, folder: Path) -> None:
        """See ``Trainer.discard``."""

    def close(self) -> None:
        """See ``Trainer.close``."""


@dataclass(frozen=True)
class Opening:
    """What a backend is opened with.

    Attributes:
        config: of the run.
        model: whose weights it begins with.
        trainable: whether the weights learn.
        date: the day that the chat template is told; None: today.
        contexts: those that the run begins with, which the chat template has to take.
    """

    config: RunConfig
    model: str
    trainable: bool
    date: datetime.date | None = None
    contexts: Sequence[Context] = (Context(),)


class BackendOpener(Protocol):
    """Opens the weights of a run; what ``[policy] backend`` names."""

    @classmethod
    def open(cls, opening: Opening) -> Backend:
        """Raises: InputError, if the model or the device cannot be used."""
