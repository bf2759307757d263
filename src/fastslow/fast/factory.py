"""The fast learner that a configuration asks for."""

from __future__ import annotations

from fastslow.config import FastConfig
from fastslow.fast.demonstrations import DemonstrationProposer
from fastslow.fast.gepa import GepaOptimizer
from fastslow.fast.llm import Ask, make_reflector
from fastslow.fast.proposer import Proposer
from fastslow.fast.protocol import ContextOptimizer
from fastslow.fast.reflection import ReflectionProposer


def build(
    config: FastConfig, ask_policy: Ask | None = None, reflect: Ask | None = None
) -> ContextOptimizer:
    """The optimiser of ``[fast]``, with one proposer per component.

    Args:
        config: ``[fast]``.
        ask_policy: answers a prompt by the policy, for ``fast.reflection.model = "policy"``.
        reflect: a Python function that takes the place of the reflection model.

    Raises:
        InputError: for a reflection model or key that cannot be had.
    """
    proposers: list[Proposer] = []
    for component in config.components:
        if component == "demonstrations":
            limits = config.demonstrations
            proposers.append(
                DemonstrationProposer(limits.max_turns, limits.max_tokens, limits.probe)
            )
        else:
            ask = make_reflector(config.reflection, ask_policy, reflect)
            proposers.append(ReflectionProposer(ask, config.reflection.max_characters))
    return GepaOptimizer(
        population=config.population,
        budget=config.budget,
        proposals=config.proposals,
        minibatch=config.minibatch,
        proposers=proposers,
    )
