"""GEPA as the fast learner: evolve the population of contexts against the current policy.

One fast phase of the paper with the ``gepa`` library: the population of the last cycle is scored
again under the moved weights, GEPA evolves it on the anchor set, and the top K of the per-instance
Pareto frontier is kept (see ``selection``).

Some anchors are set aside to be shown to proposers, as many as all proposals of the phase can see,
at most half. Scores count the others, which are the same for all contexts and were shown to none of
their proposers in this phase. Every context that is accepted is still sampled on all anchors, so a
phase takes as many rollouts as if none were set aside, and the slow phase can reuse as many.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from fastslow.config import FastConfig, Section
from fastslow.fast.adapter import Acceptance, Adapter, AnchorSets
from fastslow.fast.base import Evolution, FastLearner, FastPhase, Tools
from fastslow.fast.codec import encode
from fastslow.fast.memo import Memo
from fastslow.fast.outcome import conclude
from fastslow.fast.proposer import PROPOSERS, Proposer
from fastslow.fast.registry import fast_learner
from fastslow.types import Problem, Rollout, normalise_question

if TYPE_CHECKING:
    from gepa.core.adapter import GEPAAdapter
    from gepa.core.state import GEPAState

log = logging.getLogger("fastslow.fast")


def auto_budget(
    *, population: int, anchors: int, proposals: int, minibatch: int, proposal_calls: int
) -> int:
    """Metric calls of a phase whose budget is "auto".

    ``(K + 1) * anchors + proposals * (minibatch + proposal_calls)``: one pass over the anchors for
    each of K old contexts and one for a proposal that is accepted, and every proposal's minibatch
    and probes. A population that is not full yet leaves its passes to further proposals. At the
    paper's 192 anchors and K = 4 the passes are the paper's 960 metric calls (App. D).
    """
    return (population + 1) * anchors + proposals * (min(minibatch, anchors) + proposal_calls)


@fast_learner("gepa")
@dataclass(frozen=True)
class Gepa(FastLearner):
    """Reflective evolution with per-instance Pareto selection of parents (arXiv 2507.19457).

    Attributes:
        population: K, contexts kept.
        budget: metric calls of a phase, anchors and pool together. It is never exceeded: a proposal
            is only begun if scoring it in full still fits. The one exception is a budget too small
            for the previous population, which is always scored, with a warning.
        proposals: proposals of a phase, at most. One whose parent solves its whole minibatch is
            passed over by GEPA: it could not be told to be better.
        minibatch: anchors shown to a proposer, on which its proposal must beat the parent before it
            is scored on all others.
        proposers: what writes new contexts; they take turns.
    """

    population: int
    budget: int | Literal["auto"]
    proposals: int
    minibatch: int
    proposers: Sequence[Proposer]

    @classmethod
    def build(cls, options: Section, tools: Tools) -> Gepa:
        config = tools.config
        return cls(
            population=config.population,
            budget=config.budget,
            proposals=config.proposals,
            minibatch=config.minibatch,
            proposers=[PROPOSERS.find(c, "config").build(tools) for c in config.components],
        )

    @classmethod
    def asks_reflection(cls, config: FastConfig) -> bool:
        found = [PROPOSERS.find(component, "config") for component in config.components]
        return any(proposer.asks_reflection for proposer in found)

    def max_calls(self, anchors: int) -> int:
        return self._metric_calls(
            anchors, max((proposer.metric_calls for proposer in self.proposers), default=0)
        )

    def evolve(self, phase: FastPhase) -> Evolution:
        """Run one fast phase. What ``phase.evaluate`` raises leaves it unchanged."""
        memo = Memo(phase.evaluate)
        anchors = phase.anchors
        phase = replace(phase, evaluate=memo, pool=_without_anchors(phase.pool, anchors))
        sets = AnchorSets.split(anchors, self.proposals * self.minibatch, phase.seed)
        adapter = Adapter(phase, self.proposers, sets)
        budget = self._metric_calls(len(anchors), adapter.proposal_calls)
        previous = phase.population.contexts
        rescoring = [(problem, context) for context in previous for problem in anchors]
        if len(rescoring) > budget:
            log.warning(
                "fast.budget is %d metric calls, but scoring the population again takes %d: "
                "nothing is proposed in cycle %d",
                budget,
                len(rescoring),
                phase.cycle,
            )
        memo(rescoring)
        rescored = (memo.rollouts[p.id, c.digest] for c in previous for p in sets.scored)
        if any(rollout.is_graded for rollout in rescored):
            self._search(phase, sets, memo, adapter, budget)
        else:
            log.warning(
                "the verifier failed on all anchors that count: nothing is proposed in cycle %d",
                phase.cycle,
            )

        return conclude(
            adapter.candidates.values(),
            memo,
            previous=len(previous),
            population=self.population,
            anchors=anchors,
            scored=sets.scored,
            shown=sets.hidden,
            failed=adapter.failed,
        )

    def _metric_calls(self, anchors: int, proposal_calls: int) -> int:
        if self.budget != "auto":
            return self.budget
        return auto_budget(
            population=self.population,
            anchors=anchors,
            proposals=self.proposals,
            minibatch=self.minibatch,
            proposal_calls=proposal_calls,
        )

    def _search(
        self, phase: FastPhase, sets: AnchorSets, memo: Memo, adapter: Adapter, budget: int
    ) -> None:
        """Let GEPA propose, score and accept; what it finds stays in ``adapter`` and ``memo``."""
        from gepa.api import optimize
        from gepa.utils import MaxCandidateProposalsStopper

        def exhausted(gepa_state: GEPAState[Any, Any]) -> bool:
            dearest = len(phase.anchors) + adapter.proposal_calls
            return adapter.stuck or memo.metric_calls + dearest > budget

        # GEPA takes one seed; a population can only be handed over as the saved state of a run.
        # A folder that was used before would silently win over it, so each phase gets its own.
        # GEPA scores its one seed again all the same; the memo answers.
        with tempfile.TemporaryDirectory(prefix="fastslow-gepa-") as folder:
            state = _initial_state(phase, sets.scored, memo)
            state.save(folder)
            optimize(
                seed_candidate=state.program_candidates[0],
                trainset=sets.shown,
                valset=sets.scored,
                adapter=cast("GEPAAdapter[Problem, Rollout, Rollout]", adapter),
                module_selector=adapter.choose_proposer,
                reflection_minibatch_size=min(self.minibatch, len(sets.shown)),
                acceptance_criterion=Acceptance(),
                stop_callbacks=[exhausted, MaxCandidateProposalsStopper(self.proposals)],
                track_best_outputs=False,
                run_dir=folder,
                logger=_Logger(),
                seed=phase.seed,
            )
        if adapter.error is not None:
            raise adapter.error


class _Logger:
    """Sends GEPA's narration to the log. Its own logger takes over standard output."""

    def log(self, message: str) -> None:
        log.debug("%s", message)


def _initial_state(
    phase: FastPhase, scored: Sequence[Problem], memo: Memo
) -> GEPAState[Rollout, int]:
    """GEPA's state after it has scored every context of the previous population."""
    from gepa.core.state import GEPAState, ValsetEvaluation

    programs, evaluations = [], []
    for context in phase.population.contexts:
        rollouts = [memo.rollouts[problem.id, context.digest] for problem in scored]
        scores = {n: rollout.reward for n, rollout in enumerate(rollouts) if rollout.is_graded}
        programs.append(encode(context))
        evaluations.append(
            ValsetEvaluation[Rollout, int](outputs_by_val_id={}, scores_by_val_id=scores)
        )
    state = GEPAState[Rollout, int](programs[0], evaluations[0])
    state.num_full_ds_evals = len(programs)
    state.total_num_evals = memo.metric_calls
    for program, evaluation in zip(programs[1:], evaluations[1:], strict=True):
        state.update_state_with_new_program([], program, evaluation, None, memo.metric_calls)
    return state


def _without_anchors(pool: Sequence[Problem], anchors: Sequence[Problem]) -> list[Problem]:
    """The pool less what reads like an anchor: easy problems often come twice in a data set."""
    ids = {problem.id for problem in anchors}
    questions = {normalise_question(problem.question) for problem in anchors}
    return [p for p in pool if p.id not in ids and normalise_question(p.question) not in questions]
