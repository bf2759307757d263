"""From rollouts without a context to what a distilling learner sees (paper, FST-distill)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastslow.types import Group, Lesson


def lessons(
    groups: Sequence[Group], teachers: Callable[[int, Group], Sequence[Sequence[int]]]
) -> list[Lesson]:
    """The lessons of one update, weighed as in ``advantages.training_data``: every problem the
    same, whatever its rewards were.

    Args:
        groups: rollouts of each problem, without context.
        teachers: for each rollout of the n-th group the prompt that its teacher reads; empty where
            no context may teach the problem, because all of them show it.
    """
    taught = [(g, prompts) for n, g in enumerate(groups) if (prompts := teachers(n, g))]
    found: list[Lesson] = []
    for group, prompts in taught:
        tokens = sum(len(rollout.completion.token_ids) for rollout in group.rollouts)
        found += [
            Lesson(
                prompt_ids=rollout.completion.prompt_ids,
                teacher_prompt_ids=prompt,
                token_ids=rollout.completion.token_ids,
                logprobs=rollout.completion.logprobs,
                weight=1.0 / (tokens * len(taught)),
                policy_version=rollout.completion.policy_version,
                source=rollout.label,
            )
            for rollout, prompt in zip(group.rollouts, prompts, strict=True)
        ]
    return found
