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

    One level of sharing: a group computes its prefix once and the rest of each member apart. The
    best partition is found over the trie of the sequences: at every branching either all below it
    share what they have in common so far, or each branch is partitioned by itself. At least the
    last token of every sequence stays outside its prefix, since its output is what is asked for.

    Returns:
        Groups that hold every index once, in an order that keeps similar sequences together.
    """
    order = sorted(range(len(sequences)), key=lambda i: tuple(sequences[i]))
    if not order:
        return []
    groups = _partition(sequences, order, 0)[1]
    shared = [group for group in groups if group.length]
    whole = tuple(index for group in groups if not group.length for index in group.members)
    return [*shared, SharedGroup(0, whole)] if whole else shared


def _partition(
    sequences: Sequence[Sequence[int]], order: list[int], common: int
) -> tuple[int, list[SharedGroup]]:
    """The cheapest partition of sorted sequences that share ``common`` tokens, with its cost."""
    if len(order) == 1:
        return len(sequences[order[0]]), [SharedGroup(0, (order[0],))]
    # In sorted order the first and the last differ the earliest.
    first, last = sequences[order[0]], sequences[order[-1]]
    shortest = min(len(sequences[i]) for i in order)
    while common < shortest - 1 and first[common] == last[common]:
        common += 1
    rest = sum(len(sequences[i]) - common for i in order)
    together = (common + rest, [SharedGroup(common, tuple(order))])
    branches = _branches(sequences, order, common)
    if len(branches) == 1:  # equal up to the last token of the shortest: nothing more to share
        return together
    cost, groups = 0, []
    for branch in branches:
        branch_cost, branch_groups = _partition(sequences, branch, common)
        cost += branch_cost
        groups += branch_groups
    return together if together[0] <= cost else (cost, groups)


def _branches(
    sequences: Sequence[Sequence[int]], order: list[int], common: int
) -> list[list[int]]:
    """Sorted sequences cut into runs that agree on the token after the ``common`` first ones."""
    branches: list[list[int]] = []
    previous: int | None = None
    for index in order:
        token = sequences[index][common]
        if token != previous:
            branches.append([])
            previous = token
        branches[-1].append(index)
    return branches
