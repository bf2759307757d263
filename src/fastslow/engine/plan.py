"""Which sequences of a batch share which prefix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


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
    root = _trie([tuple(sequence[:-1]) for sequence in sequences])
    nodes = [root]
    for node in nodes:  # grows while it is read: parents come before their children
        for child in node.children:
            child.above = (*node.above, node.length)
        nodes += node.children
    for node in reversed(nodes):
        node.shared = node.length + node.passed(node.length)
        node.costs = {around: min(node.shared, node.passed(around)) for around in node.above}

    whole: list[int] = []
    groups: list[tuple[int, list[int]]] = []
    to_visit = [(root, 0, whole)]
    while to_visit:
        node, around, members = to_visit.pop()
        if node.shared < node.passed(around):
            around, members = node.length, []
            groups.append((around, members))
        members += node.ends
        to_visit += [(child, around, members) for child in reversed(node.children)]
    if whole:
        groups.append((0, whole))
    return [SharedGroup(length, tuple(members)) for length, members in groups]


@dataclass
class _Node:
    """Where bodies, the sequences without their last tokens, branch or end.

    A group's prefix ends at a node, for anywhere else it could be longer, and a sequence joins the
    longest prefix there is for it. So a partition is a choice of nodes, and what is best at a node
    and below depends on the others through ``around`` alone: the length of the longest prefix
    chosen above (0: none, sequences are computed whole).

    Attributes:
        length: tokens from the beginning.
        above: lengths of the nodes on the way here.
        ends: bodies that end here.
        shared: cost if a prefix ends here; costs are in tokens, of the prefixes at this node and
            below less what the sequences there find computed.
        costs: the lower cost, with a prefix here or without, by ``around``.
    """

    length: int
    above: tuple[int, ...] = ()
    ends: list[int] = field(default_factory=list)
    children: list[_Node] = field(default_factory=list)
    shared: int = 0
    costs: dict[int, int] = field(default_factory=dict)

    def passed(self, around: int) -> int:
        """Cost if no prefix ends here."""
        return sum(child.costs[around] for child in self.children) - around * len(self.ends)


def _trie(bodies: Sequence[tuple[int, ...]]) -> _Node:
    root = _Node(0)
    path, previous = [root], tuple[int, ...]()
    for index in sorted(range(len(bodies)), key=bodies.__getitem__):
        body = bodies[index]
        common = _common(previous, body)
        while path[-1].length > common:
            below = path.pop()
            if path[-1].length < common:
                middle = _Node(common, children=[below])
                path[-1].children[-1] = middle
                path.append(middle)
        if len(body) > common:
            leaf = _Node(len(body))
            path[-1].children.append(leaf)
            path.append(leaf)
        path[-1].ends.append(index)
        previous = body
    return root


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """Tokens that two sequences begin with alike."""
    for place, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return place
    return min(len(first), len(second))
