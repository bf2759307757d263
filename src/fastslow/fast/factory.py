"""The fast learner that a configuration asks for."""

from __future__ import annotations

from fastslow.config import FastConfig
from fastslow.fast.base import FastLearner
from fastslow.fast.demonstrations import DemonstrationProposer
from fastslow.fast.gepa import GepaOptimizer
from fastslow.fast.llm import Ask
from fastslow.fast.proposer import Proposer
from fastslow.fast.reflection import ReflectionProposer


def build(config: FastConfig, reflector: Ask | None = None) -> FastLearner:
    """The optimiser of ``[fast]``, with one proposer per component.

    Args:
        config: ``[fast]``.
        reflector: the reflection model (see ``llm.make_reflector``), for component "instructions".
    """
    proposers: list[Proposer] = []
    for component in config.components:
        if component == "demonstrations":
            limits = config.demonstrations
            proposers.append(
                DemonstrationProposer(limits.max_turns, limits.max_tokens, limits.probe)
            )
        else:
            assert reflector is not None
            proposers.append(ReflectionProposer(reflector, config.reflection.max_characters))
    return GepaOptimizer(
        population=config.population,
        budget=config.budget,
        proposals=config.proposals,
        minibatch=config.minibatch,
        proposers=proposers,
    )
