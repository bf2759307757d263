"""The prefix tree: the one batch layout for sampling, log-probabilities and training.

Sequences that begin alike share the nodes of what they begin with, so every shared token stands in
the tree once, however many sequences read it: contexts, questions under them, beginnings of
completions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(eq=False)
class Node:
    """A run of tokens without a branch in it.

    Attributes:
        tokens: of this node alone.
        start: position of the first of them in the sequences that run through the node.
        parent: None for a node in which sequences begin.
        children: in the order of their tokens.
        ends: sequences that end with this node's last token.
        size: tokens of the node and of everything below it.
    """

    tokens: tuple[int, ...]
    start: int
    parent: Node | None = None
    children: list[Node] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    size: int = 0

    @property
    def end(self) -> int:
        """Position after the last token."""
        return self.start + len(self.tokens)

    def path(self) -> list[Node]:
        """The nodes from the root to this one."""
        path = [self]
        while (parent := path[-1].parent) is not None:
            path.append(parent)
        return path[::-1]

    def walk(self) -> list[Node]:
        """The node and everything below it, depth first, parents before children."""
        found, to_visit = [], [self]
        while to_visit:
            node = to_visit.pop()
            found.append(node)
            to_visit += reversed(node.children)
        return found


def grow(sequences: Sequence[Sequence[int]]) -> list[Node]:
    """The roots of the prefix tree of these sequences, none of which is empty.

    Every branch point is a node's end, so no token that sequences share stands there twice. Equal
    sequences end in the same node.
    """
    arrays = [np.asarray(sequence, dtype=np.int64) for sequence in sequences]
    roots: list[Node] = []
    path: list[Node] = []  # of the sequence before, root first
    previous = np.empty(0, dtype=np.int64)
    for index in sorted(range(len(sequences)), key=lambda i: tuple(sequences[i])):
        sequence = arrays[index]
        common = common_length(previous, sequence)
        while path and path[-1].start >= common:
            path.pop()
        if path and path[-1].end > common:
            split(path[-1], common)
        if common < len(sequence):
            parent = path[-1] if path else None
            leaf = Node(tuple(sequence[common:].tolist()), common, parent)
            (parent.children if parent else roots).append(leaf)
            path.append(leaf)
        path[-1].ends.append(index)
        previous = sequence
    measure(roots)
    return roots


def split(node: Node, position: int) -> None:
    """Cut a node in two at a position inside it: it keeps what is before, a new child the rest."""
    kept = position - node.start
    rest = Node(node.tokens[kept:], position, node, node.children, node.ends)
    rest.size = node.size - kept
    for child in rest.children:
        child.parent = rest
    node.tokens, node.children, node.ends = node.tokens[:kept], [rest], []


def dissolve(node: Node) -> list[Node]:
    """What stands in a node's place when each child computes the node's tokens itself."""
    parts = [
        Node(node.tokens + child.tokens, node.start, node.parent, child.children, child.ends)
        for child in node.children
    ]
    if node.ends:
        parts.insert(0, Node(node.tokens, node.start, node.parent, [], node.ends))
    for part in parts:
        for child in part.children:
            child.parent = part
    measure(parts)
    return parts


def measure(roots: Sequence[Node]) -> None:
    """Set the sizes of these nodes and of all below them."""
    for root in roots:
        for node in reversed(root.walk()):
            node.size = len(node.tokens) + sum(child.size for child in node.children)


def common_length(first: Sequence[int] | np.ndarray, second: Sequence[int] | np.ndarray) -> int:
    """Tokens that two sequences begin with alike."""
    length = min(len(first), len(second))
    different = np.flatnonzero(np.asarray(first[:length]) != np.asarray(second[:length]))
    return int(different[0]) if len(different) else length
