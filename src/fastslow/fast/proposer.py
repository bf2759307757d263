"""What a proposer is: something that writes a new context from one that was tried."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from fastslow.fast.base import FastPhase, Tools
from fastslow.plugins import Registry
from fastslow.types import Context, Rollout


class ProposalError(Exception):
    """The source of proposals could not be reached. The phase goes on without the proposal.

    The message names the source, the last error and the number of tries.
    """


class Proposer(ABC):
    """A way to write new contexts. Several take turns within one phase.

    Attributes:
        asks_reflection: whether it needs ``[fast.reflection]``.
        name: the origin of the candidates it makes; unique among the proposers of a learner.
    """

    asks_reflection: ClassVar[bool] = False
    name: str

    @classmethod
    @abstractmethod
    def build(cls, tools: Tools) -> Proposer:
        """The proposer of a run. Raises: InputError."""

    @property
    def metric_calls(self) -> int:
        """Maximum number of metric calls that one proposal makes through ``phase.evaluate``."""
        return 0

    @abstractmethod
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


PROPOSERS: Registry[Proposer] = Registry(
    "fast.components",
    group="fastslow.proposers",
    built_in={
        "demonstrations": "fastslow.fast.demonstrations",
        "instructions": "fastslow.fast.reflection",
    },
)

proposer = PROPOSERS.register
"""``@proposer("NAME")`` makes a class available as a name in ``[fast] components``."""
