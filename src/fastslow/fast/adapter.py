"""A fast phase as GEPA sees it: how candidates are scored and where new ones come from."""

from __future__ import annotations

import logging
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastslow.fast.base import FastPhase
from fastslow.fast.codec import Texts, decode, encode
from fastslow.fast.proposer import ProposalError, Proposer
from fastslow.types import Candidate, Context, Problem, Rollout, same_reward

if TYPE_CHECKING:
    from gepa.core.adapter import EvaluationBatch
    from gepa.core.state import GEPAState

log = logging.getLogger("fastslow.fast")

PATIENCE = 2
"""Proposals in a row that a proposer may fail to reach its source for. Then it rests for the phase:
a server that is down would otherwise cost every proposal all its tries and timeouts."""


@dataclass(frozen=True)
class AnchorSets:
    """The anchors of a phase in two parts, as GEPA has them.

    Attributes:
        shown: those that proposers are shown, with what the policy made of them.
        scored: those that scores count.
    """

    shown: list[Problem]
    scored: list[Problem]

    @property
    def hidden(self) -> frozenset[str]:
        """Ids of the anchors whose scores do not count."""
        return frozenset(p.id for p in self.shown) - {p.id for p in self.scored}

    @classmethod
    def split(cls, anchors: Sequence[Problem], size: int, seed: int) -> AnchorSets:
        """Set ``size`` anchors aside to be shown, or half of them where those are fewer. A single
        anchor has to serve as both."""
        count = min(size, len(anchors) // 2)
        if count == 0:
            return cls(list(anchors), list(anchors))
        chosen = set(random.Random(f"shown {seed}").sample(range(len(anchors)), count))
        return cls(
            [problem for number, problem in enumerate(anchors) if number in chosen],
            [problem for number, problem in enumerate(anchors) if number not in chosen],
        )


class Adapter:
    """Implements ``gepa.GEPAAdapter`` for one fast phase and keeps the phase's bookkeeping.

    GEPA chooses the parent and the minibatch, accepts or rejects; the proposers, in turn, write.

    Attributes:
        candidates: every context that was scored, by digest, in order; scores are filled in later.
        failed: proposals that could not be had.
        error: what a proposer raised. GEPA would log it and carry on, but it is a fault of ours or
            of the run: ``stuck`` stops GEPA and the optimiser raises it again.
    """

    def __init__(self, phase: FastPhase, proposers: Sequence[Proposer], sets: AnchorSets) -> None:
        self._phase = phase
        self._sets = sets
        self._proposers = list(proposers)
        self._turn = 0
        self._unreachable: Counter[str] = Counter()
        self._rng = random.Random(f"proposers {phase.seed}")
        self.candidates = {c.context.digest: c for c in phase.population.candidates}
        self.failed = 0
        self.error: Exception | None = None

    @property
    def stuck(self) -> bool:
        """Whether no further proposal can come."""
        return self.error is not None or not self._proposers

    @property
    def proposal_calls(self) -> int:
        """Metric calls that the next proposal makes at most, before it is scored."""
        return max((proposer.metric_calls for proposer in self._proposers), default=0)

    def evaluate(
        self, batch: list[Problem], candidate: Texts, capture_traces: bool = False
    ) -> EvaluationBatch[Rollout, Rollout]:
        """GEPA's call for one candidate."""
        return self.batch_evaluate([(candidate, batch)])[0]

    def batch_evaluate(
        self, items: list[tuple[Texts, list[Problem]]]
    ) -> list[EvaluationBatch[Rollout, Rollout]]:
        """GEPA's call for several candidates: the policy gets all their pairs as one batch."""
        from gepa.core.adapter import EvaluationBatch

        asked = [(decode(texts), problems) for texts, problems in items]
        pairs = [(problem, context) for context, problems in asked for problem in problems]
        accepted = [context for context, problems in asked if problems == self._sets.scored]
        aside = [(problem, context) for context in accepted for problem in self._sets.shown]
        # The slow phase asks all anchors, and can use what was sampled on those set aside.
        rollouts = iter(self._phase.evaluate([*pairs, *aside]))
        batches = []
        for _, problems in asked:
            outputs = [next(rollouts) for _ in problems]
            examples = [rollout for rollout in outputs if rollout.is_graded]
            batches.append(EvaluationBatch(outputs, list(map(_score, outputs)), examples))
        return batches

    def choose_proposer(self, *_: Any, **__: Any) -> list[str]:
        """GEPA's component selector: what it takes for components are the proposers' names, since
        whose turn it is matters more than which text changes. Proposers take turns."""
        self._turn += 1
        return [self._proposers[self._turn % len(self._proposers)].name]

    def make_reflective_dataset(
        self,
        candidate: Texts,
        eval_batch: EvaluationBatch[Rollout, Rollout],
        components_to_update: list[str],
    ) -> dict[str, list[dict[str, Any]]]:
        """GEPA's call between scoring the parent and asking for a proposal: passes examples on."""
        (name,) = components_to_update
        examples = eval_batch.trajectories or []
        return {name: [{"example": example} for example in examples]}

    def propose_new_texts(
        self,
        candidate: Texts,
        reflective_dataset: Mapping[str, Sequence[Mapping[str, Any]]],
        components_to_update: list[str],
    ) -> Texts:
        """GEPA's call for a proposal: the texts that change, or nothing."""
        (name,) = components_to_update
        examples = [record["example"] for record in reflective_dataset[name]]
        proposer = next(p for p in self._proposers if p.name == name)
        parent = decode(candidate)
        try:
            child = self._ask(proposer, parent, examples)
        except Exception as error:
            self.error = error
            return {}
        if child is None or not self._is_new_and_fair(proposer, child):
            self.failed += 1
            return {}
        self.candidates[child.digest] = Candidate(
            child, parents=(parent.digest,), origin=proposer.name, cycle=self._phase.cycle
        )
        return {key: text for key, text in encode(child).items() if text != candidate[key]}

    def _ask(
        self, proposer: Proposer, parent: Context, examples: Sequence[Rollout]
    ) -> Context | None:
        try:
            child = proposer.propose(parent, examples, self._phase, self._rng)
        except ProposalError as error:
            log.warning("%s: a proposal could not be had: %s", proposer.name, error)
            self._unreachable[proposer.name] += 1
            if self._unreachable[proposer.name] == PATIENCE:
                log.warning("%s: rests for the remainder of this fast phase", proposer.name)
                self._proposers.remove(proposer)
            return None
        self._unreachable[proposer.name] = 0
        return child

    def _is_new_and_fair(self, proposer: Proposer, context: Context) -> bool:
        """Whether it was not scored yet and gives none of the problems away that it would be scored
        on."""
        if context.digest in self.candidates:
            return False
        return self._phase.refuse_leaks(context, proposer.name)


class Acceptance:
    """Whether a proposal is scored on all anchors, given its minibatch (GEPA's criterion).

    GEPA's own rule asks for a higher sum than the parent's. That is blind at the start of a run:
    where the parent scores zero on *every* anchor, and a good context would on a few in a hundred,
    a minibatch of three nearly always ties at zero. There the tie is accepted: only a full pass
    can tell, and nothing worse than the parent can be let in.

    Compared are the problems on which both have a score.
    """

    def should_accept(self, proposal: Any, state: GEPAState[Rollout, int]) -> bool:
        pairs = zip(proposal.subsample_scores_before, proposal.subsample_scores_after, strict=True)
        known = [pair for pair in pairs if not any(map(math.isnan, pair))]
        before, after = (sum(scores) for scores in zip((0.0, 0.0), *known, strict=True))
        (parent,) = proposal.parent_program_ids
        improves = after > before and not same_reward(after, before)
        return improves or not any(
            s > 0 for s in state.prog_candidate_val_subscores[parent].values()
        )


def _score(rollout: Rollout) -> float:
    """What GEPA takes for a rollout's score: NaN where there is none. GEPA has no word for that,
    but NaN is neither better than any score nor equal to one, so it puts no context on a front."""
    return rollout.reward if rollout.is_graded else math.nan
