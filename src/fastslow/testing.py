"""Builders for tests of learners, tasks and backends: the vocabulary, made in a line."""

from __future__ import annotations

from collections.abc import Sequence

from fastslow.types import Context, Failure, Problem, Rollout, Turn, Verdict


def turn(
    text: str = "",
    *,
    read: Sequence[int] = (1,),
    sampled: Sequence[int] = (2,),
    logprobs: Sequence[float] | None = None,
    finished: bool = True,
) -> Turn:
    """One turn; each sampled token has log-probability -0.5 unless ``logprobs`` are given."""
    given = (-0.5,) * len(sampled) if logprobs is None else tuple(logprobs)
    return Turn(tuple(read), tuple(sampled), given, text, finished)


def rollout(
    problem: Problem | str = "p",
    context: Context | str = "c",
    outcome: float | Verdict | Failure = 0.0,
    *turns: Turn,
    version: int = 0,
) -> Rollout:
    """One rollout, of one turn unless turns are given.

    Args:
        problem: or the id of one.
        context: or the digest of one, which no text has.
        outcome: its verdict, or the score of one.
        turns: what was read and sampled.
        version: of the policy that sampled it.
    """
    return Rollout(
        Problem(problem, f"{problem}?") if isinstance(problem, str) else problem,
        named_context(context) if isinstance(context, str) else context,
        turns or (turn(),),
        Verdict(outcome) if isinstance(outcome, (int, float)) else outcome,
        version,
    )


def named_context(digest: str) -> Context:
    """A context that goes by ``digest``, whatever it says."""
    context = Context(f"The context {digest}.")
    vars(context)["digest"] = digest
    return context
