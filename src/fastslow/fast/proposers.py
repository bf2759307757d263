"""The proposers that ``fast.components`` names."""

from __future__ import annotations

from fastslow.fast.base import Tools
from fastslow.fast.demonstrations import DemonstrationProposer
from fastslow.fast.proposer import Proposer
from fastslow.fast.reflection import ReflectionProposer


def build_proposers(tools: Tools) -> list[Proposer]:
    """One proposer for each component, in their order."""
    proposers: list[Proposer] = []
    for component in tools.config.components:
        if component == "demonstrations":
            limits = tools.config.demonstrations
            proposers.append(
                DemonstrationProposer(limits.max_turns, limits.max_tokens, limits.probe)
            )
        else:
            assert tools.reflector is not None
            limit = tools.config.reflection.max_characters
            proposers.append(ReflectionProposer(tools.reflector, limit))
    return proposers
