"""Which sequences of a batch share which prefix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SharedGroup:
    """Sequences that begin with the same ``length`` tokens, which are computed once for all.

    Attributes:
        length: tokens of the shared prefix; 0 for sequences computed whole.
        members: indices into the batch.
    """

    length: int
    members: tuple[int, ...]


def share_prefixes(sequences: Sequence[Sequence[int]]) -> list[SharedGroup]:
    """Partition sequences into groups with a shared prefix so that the fewest tokens are computed.

    One level of sharing: a group computes its prefix once and the rest of each member apart. At
    least the last token of every sequence stays outside its prefix, since its output is what is
    asked for. No partition of this kind computes fewer tokens.

    Returns:
        Groups that hold every index once, in an order that keeps similar sequences together. The
        sequences that are computed whole, if any, come last.
    """
    bodies = [tuple(sequence[:-1]) for sequence in sequences]
    if not bodies:
        return []
    order = sorted(range(len(bodies)), key=bodies.__getitem__)
    best = _Planner(bodies).plan(order, 0, 0)
    return [*best.groups, SharedGroup(0, best.rest)] if best.rest else list(best.groups)


@dataclass(frozen=True)
class _Plan:
    """What becomes of the sequences below one node of the trie.

    Attributes:
        cost: tokens of the groups' prefixes, less the tokens that every sequence finds computed.
        groups: with prefixes that end at this node or below it.
        rest: sequences that join the group around the node.
    """

    cost: int
    groups: tuple[SharedGroup, ...]
    rest: tuple[int, ...]


class _Planner:
    """Finds the best groups over the trie of the bodies, the sequences without their last tokens.

    A group's prefix ends where bodies branch or end, for anywhere else it could be longer; and a
    sequence joins the longest prefix there is for it. So a plan is a choice of nodes, and what is
    best below a node depends on the rest of the trie through ``around`` alone: the length of the
    longest prefix chosen above it (0: none, every sequence is whole).
    """

    def __init__(self, bodies: Sequence[tuple[int, ...]]) -> None:
        self._bodies = bodies
        self._plans: dict[tuple[int, int, int], _Plan] = {}

    def plan(self, order: Sequence[int], common: int, around: int) -> _Plan:
        """The best plan for sorted bodies, which are known to agree on ``common`` tokens."""
        key = order[0], len(order), around
        if key not in self._plans:
            self._plans[key] = self._choose(order, common, around)
        return self._plans[key]

    def _choose(self, order: Sequence[int], common: int, around: int) -> _Plan:
        # In sorted order the first and the last differ the earliest.
        first, last = self._bodies[order[0]], self._bodies[order[-1]]
        while common < min(len(first), len(last)) and first[common] == last[common]:
            common += 1
        passed = self._below(order, common, around)
        if len(order) == 1 or common == around:
            return passed
        shared = self._below(order, common, common)
        if shared.cost + common >= passed.cost:
            return passed
        group = SharedGroup(common, shared.rest)
        return _Plan(shared.cost + common, (group, *shared.groups), ())

    def _below(self, order: Sequence[int], common: int, around: int) -> _Plan:
        """The plans of the branches behind ``common`` tokens and of the bodies that end there."""
        ends = [index for index in order if len(self._bodies[index]) == common]
        plans = [self.plan(branch, common, around) for branch in self._branches(order, common)]
        return _Plan(
            sum(plan.cost for plan in plans) - around * len(ends),
            tuple(group for plan in plans for group in plan.groups),
            (*ends, *(index for plan in plans for index in plan.rest)),
        )

    def _branches(self, order: Sequence[int], common: int) -> list[list[int]]:
        """Sorted bodies longer than ``common`` in runs that agree on the token behind it."""
        branches: dict[int, list[int]] = {}
        for index in order:
            if len(self._bodies[index]) > common:
                branches.setdefault(self._bodies[index][common], []).append(index)
        return list(branches.values())
