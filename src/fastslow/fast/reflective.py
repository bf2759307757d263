"""What fast learners share that have a language model write instructions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from fastslow.errors import InputError
from fastslow.fast.adapter import AnchorSets
from fastslow.fast.base import Evolution, FastPhase, Tools
from fastslow.fast.memo import Memo
from fastslow.fast.outcome import conclude
from fastslow.fast.proposer import ProposalError
from fastslow.types import Candidate, Context, Rollout

log = logging.getLogger("fastslow.fast")

Write = Callable[[Sequence[Candidate], Sequence[Rollout]], Context | None]
"""A new context from those tried so far, with their scores, and graded rollouts of the best one on
anchors that are set aside; None where the answer of the language model gives none."""


def reflector_of(tools: Tools, name: str) -> Callable[[str], str]:
    """The reflection model. Raises: InputError, if there is none."""
    if tools.reflector is None:
        raise InputError(
            f'fast.algorithm = "{name}" needs a model to write instructions: set '
            'fast.reflection.model (a litellm name, "policy" or "python")'
        )
    return tools.reflector


def search(
    phase: FastPhase, name: str, write: Write, *, steps: int, each: int, shown: int, population: int
) -> Evolution:
    """``steps`` times ask for ``each`` new contexts, and score all of a step in one batch.

    Args:
        phase: of the loop.
        name: origin of the candidates.
        write: asks the language model.
        steps: number of rounds.
        each: number of proposals of a round.
        shown: number of anchors that are set aside to be shown; their scores do not count.
        population: number of contexts to keep, at most.
    """
    memo = Memo(phase.evaluate)
    anchors = list({problem.id: problem for problem in phase.anchors}.values())
    sets = AnchorSets.split(anchors, shown, phase.seed)
    old = list(phase.population.candidates)
    tried = {candidate.context.digest: candidate for candidate in old}
    memo([(problem, candidate.context) for candidate in old for problem in anchors])
    failed = 0
    hidden = frozenset(p.id for p in sets.shown) - {p.id for p in sets.scored}

    def outcome() -> Evolution:
        return conclude(
            tried.values(),
            memo,
            previous=len(old),
            population=population,
            anchors=anchors,
            scored=sets.scored,
            shown=hidden,
            failed=failed,
        )

    for _ in range(steps):
        now = outcome()
        best = now.population.best.context
        seen = [memo.rollouts[problem.id, best.digest] for problem in sets.shown]
        graded = [rollout for rollout in seen if rollout.is_graded]
        fresh: dict[str, Candidate] = {}
        for _ in range(each):
            context = _ask(name, write, now.candidates, graded)
            if context is None or not _is_fair(name, phase, context, {**tried, **fresh}):
                failed += 1
                continue
            fresh[context.digest] = Candidate(
                context, parents=(best.digest,), origin=name, cycle=phase.cycle
            )
        tried |= fresh
        memo([(problem, c.context) for c in fresh.values() for problem in anchors])
    return outcome()


def _ask(
    name: str, write: Write, tried: Sequence[Candidate], seen: Sequence[Rollout]
) -> Context | None:
    try:
        return write(tried, seen)
    except ProposalError as error:
        log.warning("%s: no proposal could be had: %s", name, error)
        return None


def _is_fair(name: str, phase: FastPhase, context: Context, known: dict[str, Candidate]) -> bool:
    """Whether the context is new and gives no anchor away."""
    if context.digest in known:
        return False
    for problem, how in phase.leaks.given_away_by(context).items():
        log.warning("%s: a proposed context was refused: it %s problem %r", name, how, problem)
        return False
    return True
