"""Spreading rollouts over contexts, sampling them and having them graded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fastslow.errors import InputError
from fastslow.policy.protocol import Policy, SampleRequest
from fastslow.tasks.protocol import Task
from fastslow.types import Context, Group, Problem, Rollout


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
    """One group per problem, over all contexts, in the order of ``problems``."""
    members: dict[str, list[Rollout]] = {problem.id: [] for problem in problems}
    for rollout in rollouts:
        members[rollout.problem_id].append(rollout)
    return [Group(problem, tuple(members[problem.id])) for problem in problems]


def sample_rollouts(
    policy: Policy,
    task: Task,
    asks: Sequence[Ask],
    on_finished: Callable[[int], None] = lambda count: None,
) -> list[Rollout]:
    """Sample and grade one rollout per ask, in order.

    Asks of the same problem under the same context share one prompt.

    Raises:
        InputError: a prompt leaves no room for a completion in the model's window.
        ValueError: a context shows the problem that is asked under it.
    """
    requests: dict[tuple[str, str], list[int]] = {}
    for number, ask in enumerate(asks):
        requests.setdefault((ask.problem.id, ask.context.digest), []).append(number)
    prompts = [
        SampleRequest(
            prompt_ids=_prompt(policy, asks[numbers[0]]),
            seeds=tuple(asks[number].seed for number in numbers),
        )
        for numbers in requests.values()
    ]
    sampled = policy.sample(prompts, on_finished=on_finished)
    rollouts: dict[int, Rollout] = {}
    for numbers, completions in zip(requests.values(), sampled, strict=True):
        for number, completion in zip(numbers, completions, strict=True):
            ask = asks[number]
            rollouts[number] = Rollout(
                problem_id=ask.problem.id,
                context=ask.context.digest,
                completion=completion,
                verdict=task.grade(ask.problem, completion.text),
            )
    return [rollouts[number] for number in range(len(asks))]


def _prompt(policy: Policy, ask: Ask) -> tuple[int, ...]:
    if ask.context.shows(ask.problem):
        raise ValueError(f"context {ask.context.digest} shows problem {ask.problem.id!r}")
    prompt = policy.encode(ask.context, ask.problem.question)
    if len(prompt) + policy.max_tokens > policy.window:
        raise InputError(
            f"problem {ask.problem.id!r} makes a prompt of {len(prompt)} tokens under context "
            f"{ask.context.digest}; with policy.max_tokens, {policy.max_tokens}, that is more than "
            f"the model's window of {policy.window}: leave the problem out, lower "
            "policy.max_tokens or allow less context (fast.demonstrations.max_tokens)"
        )
    return prompt
