"""What a run will cost, as far as its configuration tells."""

from __future__ import annotations

from fastslow.config import RunConfig
from fastslow.fast import registry
from fastslow.fast.base import Tools


def most_rollouts(config: RunConfig) -> int:
    """Rollouts that a run samples for training, at most; evaluations come on top.

    Reuse makes it fewer, and so does a fast phase that runs out of proposals.
    """
    per_step = config.slow.problems * config.slow.group
    slow = config.total_steps * per_step if config.uses_slow else 0
    return slow + (_fast(config) if config.uses_fast else 0)


def _fast(config: RunConfig) -> int:
    every = config.fast.every
    cycles = [
        min(every, stage.steps - start)
        for stage in config.all_stages
        for start in range(0, stage.steps, every)
    ]
    optimizer = registry.create(config.fast, Tools(config.fast, _unasked))
    return sum(optimizer.max_calls(steps * config.slow.problems) for steps in cycles)


def _unasked(prompt: str) -> str:
    raise AssertionError("what a run costs is found out without asking a model")
