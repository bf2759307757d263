"""Spreading rollouts over contexts, sampling them and having them graded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fastslow.errors import RunError
from fastslow.policy.protocol import Policy, SampleRequest
from fastslow.types import Completion, Context, Failure, Group, Problem, Rollout, Verdict

log = logging.getLogger("fastslow.rollouts")

Grade = Callable[[Sequence[tuple[Problem, str]]], list[Verdict | Failure]]
"""Grades completions of problems, in order, as far as the verifier does not fail."""


@dataclass(frozen=True)
class Ask:
    """One rollout that is wanted: a problem, the context to ask it under, and its seed."""

    problem: Problem
    context: Context
    seed: int


def spread(problem: Problem, contexts: Sequence[Context], count: int, turn: int) -> list[Context]:
    """The contexts under which ``count`` rollouts of a problem are sampled, as evenly as possible.

    G/K each if K divides G (paper, slow phase). What does not divide goes to different contexts on
    different turns. A context that shows the problem is passed over; the result is empty if all do.
    """
    fair = [context for context in contexts if not context.shows(problem)]
    return [fair[(turn + index) % len(fair)] for index in range(count)] if fair else []


def plan_rollouts(
    problems: Sequence[Problem],
    contexts: Sequence[Context],
    count: int,
    reusable: Mapping[tuple[str, str], Rollout],
    seed: Callable[[str, str, int], int],
) -> tuple[list[Rollout], list[Ask]]:
    """What to reuse and what to sample so that every problem gets ``count`` rollouts.

    A reusable rollout, by (problem id, context digest), takes one of the places of its pair.
    ``seed`` gives the seed of a problem's n-th rollout under a context.
    """
    reused: list[Rollout] = []
    asks: list[Ask] = []
    for turn, problem in enumerate(problems):
        used: set[str] = set()
        for number, context in enumerate(spread(problem, contexts, count, turn)):
            rollout = reusable.get((problem.id, context.digest))
            if rollout is not None and context.digest not in used:
                used.add(context.digest)
                reused.append(rollout)
            else:
                asks.append(Ask(problem, context, seed(problem.id, context.digest, number)))
    return reused, asks


def group_by_problem(problems: Sequence[Problem], rollouts: Sequence[Rollout]) -> list[Group]:
    """One group per problem, over all contexts, in the order of ``problems``. Rollouts of other
    problems are passed over, and those on which the verifier failed: they have no reward."""
    members: dict[str, list[Rollout]] = {problem.id: [] for problem in problems}
    for rollout in rollouts:
        if rollout.problem_id in members and rollout.is_graded:
            members[rollout.problem_id].append(rollout)
    return [Group(problem, tuple(members[problem.id])) for problem in problems]


def sample_rollouts(
    policy: Policy,
    grade: Grade,
    asks: Sequence[Ask],
    on_finished: Callable[[int], None] = lambda count: None,
) -> list[Rollout]:
    """Sample and grade one rollout per ask, in order.

    Asks of the same problem under the same context share one prompt.

    A prompt that leaves no room for a completion in the model's window is logged as an error and
    not sampled: its rollout has no tokens, scores 0, and says why in its feedback.

    Raises:
        ValueError: a context shows the problem that is asked under it.
    """
    requests: dict[tuple[str, str], list[int]] = {}
    for number, ask in enumerate(asks):
        requests.setdefault((ask.problem.id, ask.context.digest), []).append(number)
    refused: dict[int, Rollout] = {}
    prompts: list[SampleRequest] = []
    places: list[int] = []
    for numbers in requests.values():
        ask = asks[numbers[0]]
        prompt = _prompt(policy, ask)
        if reason := _too_long(policy, ask, prompt):
            log.error("%s", reason)
            refused |= dict.fromkeys(numbers, _unsampled(policy, ask, prompt, reason))
            continue
        prompts.append(SampleRequest(prompt, tuple(asks[number].seed for number in numbers)))
        places += numbers
    sampled = policy.sample(prompts, on_finished=on_finished) if prompts else []
    completions = [completion for some in sampled for completion in some]
    verdicts = grade(
        [
            (asks[number].problem, completion.text)
            for number, completion in zip(places, completions, strict=True)
        ]
    )
    rollouts = refused | {
        number: Rollout(asks[number].problem.id, asks[number].context.digest, completion, verdict)
        for number, completion, verdict in zip(places, completions, verdicts, strict=True)
    }
    return [rollouts[number] for number in range(len(asks))]


def stop_if_ungraded(
    asks: Sequence[Ask], rollouts: Sequence[Rollout], task_of: Callable[[Problem], str]
) -> None:
    """Raises: RunError, if the verifier failed on every one of ``asks`` that was sampled.

    ``task_of`` gives the name of a problem's task.
    """
    failures = [
        (ask.problem, rollout.verdict)
        for ask, rollout in zip(asks, rollouts, strict=True)
        if isinstance(rollout.verdict, Failure)
    ]
    if failures and len(failures) == sum(rollout.is_sampled for rollout in rollouts):
        problem, first = failures[0]
        raise RunError(
            f"every verdict of a batch failed, {len(failures)} of {len(failures)}. The first: task "
            f"{task_of(problem)}, problem {problem.id!r}: {first.reason}. A failed verdict is no "
            "score, so nothing can be learnt or measured here: mend the verifier\n"
            f"{first.trace}".rstrip()
        )


def left_out(rollouts: Sequence[Rollout]) -> set[str]:
    """Ids of the problems of which some rollout could not be sampled."""
    return {rollout.problem_id for rollout in rollouts if not rollout.is_sampled}


def _prompt(policy: Policy, ask: Ask) -> tuple[int, ...]:
    if ask.context.shows(ask.problem):
        raise ValueError(f"context {ask.context.digest} shows problem {ask.problem.id!r}")
    return policy.encode(ask.context, ask.problem.question)


def _too_long(policy: Policy, ask: Ask, prompt: tuple[int, ...]) -> str | None:
    """Why the prompt cannot be sampled from, if it cannot."""
    if len(prompt) + policy.max_tokens <= policy.window:
        return None
    return (
        f"problem {ask.problem.id!r} is left out: it makes a prompt of {len(prompt)} tokens under "
        f"context {ask.context.digest}, which with policy.max_tokens, {policy.max_tokens}, is more "
        f"than the model's window of {policy.window}. Shorten the problem, lower "
        "policy.max_tokens or allow less context (fast.demonstrations.max_tokens)"
    )


def _unsampled(policy: Policy, ask: Ask, prompt: tuple[int, ...], reason: str) -> Rollout:
    nothing = Completion(prompt, (), (), "", finished=False, policy_version=policy.version)
    return Rollout(ask.problem.id, ask.context.digest, nothing, Verdict(0.0, reason))
