"""What a proposer is: something that writes a new context from one that was tried."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

from fastslow.fast.base import FastPhase
from fastslow.types import Context, Rollout


class ProposalError(Exception):
    """The source of proposals could not be reached. The phase goes on without the proposal.

    The message names the source, the last error and the number of tries.
    """


class Proposer(Protocol):
    """A way to write new contexts. Several take turns within one phase."""

    @property
    def name(self) -> str:
        """The origin of the candidates it makes; unique among the proposers of an optimiser."""

    @property
    def metric_calls(self) -> int:
        """Metric calls that one proposal makes at most, through ``phase.evaluate``."""

    def propose(
        self, parent: Context, examples: Sequence[Rollout], phase: FastPhase, rng: random.Random
    ) -> Context | None:
        """A variation of ``parent``, or None where there is none to be had.

        Args:
            parent: the context to improve.
            examples: graded rollouts of a minibatch of anchors under ``parent``.
            phase: the phase; pairs that ``evaluate`` has answered before are free, and no problem
                of ``pool`` is an anchor.
            rng: the only source of randomness.

        Raises:
            ProposalError: if the source of proposals cannot be reached. Anything else that is
                raised ends the phase.
        """
