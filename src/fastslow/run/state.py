"""Where a run stands between two slow steps: all that the loop needs to go on from there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fastslow.types import Context, Population, Rollout


@dataclass(frozen=True)
class LoopState:
    """The loop's position. Weights and optimiser state are the policy's, which saves them.

    There is no random state: every random choice is derived from the run's seed and its place in
    the run (see ``seeding``), so that a resumed run makes the same ones.

    Attributes:
        step: slow steps done in the whole run; with the configuration it gives the stage, the
            cycle and the place in the data.
        cycle: number of the cycle that the next step belongs to, from 0.
        population: the contexts in force.
        rollouts: fast-phase rollouts of the cycle under way that later steps may reuse, by
            (problem id, context digest); empty between two cycles.
        skipped: steps since the last update whose numbers no update could be made of.
        own: for every task that was trained on under evolved contexts the best one that the last
            fast phase on it left: what one keeps for the task when the run has moved on to others.
    """

    step: int
    cycle: int
    population: Population
    rollouts: Mapping[tuple[str, str], Rollout] = field(default_factory=dict)
    skipped: int = 0
    own: Mapping[str, Context] = field(default_factory=dict)
