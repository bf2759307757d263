"""Cutting a prefix tree into forward passes that stay within a budget of tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from fastslow.engine.layout import CLUSTER
from fastslow.engine.tree import Node, dissolve, split

_WORTH = 16
"""Tokens that a trunk must save to be computed apart: each trunk costs calls in every layer."""


@dataclass
class Block:
    """One forward pass.

    Attributes:
        roots: whole subtrees; or, if other passes continue this one, a single node of which only
            its own tokens are computed.
        below: the passes that read the node's keys and values.
    """

    roots: list[Node]
    below: list[Block] = field(default_factory=list)


def prune(roots: Sequence[Node]) -> list[Node]:
    """The tree without trunks that save next to nothing: their children compute them again."""
    kept: list[Node] = []
    to_visit = deque((root, kept) for root in roots)
    while to_visit:
        node, siblings = to_visit.popleft()
        readers = len(node.children) + bool(node.ends)
        if node.size > CLUSTER and node.children and (readers - 1) * len(node.tokens) < _WORTH:
            to_visit.extendleft((part, siblings) for part in reversed(dissolve(node)))
            continue
        siblings.append(node)
        if node.size > CLUSTER:
            children, node.children = node.children, []
            to_visit.extendleft((child, node.children) for child in reversed(children))
    for node in reversed([node for root in kept for node in root.walk()]):
        node.size = len(node.tokens) + sum(child.size for child in node.children)
    return kept


def plan(roots: Sequence[Node], budget: int, starts: Sequence[int]) -> list[Block]:
    """Passes that together compute the tree, each of at most ``budget`` tokens.

    A subtree within the budget is computed in one pass. Of a larger one the topmost node is
    computed first and what is below it afterwards; its keys and values are held meanwhile. A single
    path longer than the budget is a pass of its own.

    Args:
        roots: of the tree; it is changed.
        budget: tokens.
        starts: for each sequence the position from which on its outputs are asked for. They all
            come from one pass: tokens that would separate them are computed more than once.
    """
    blocks: list[Block] = []
    room = 0
    to_place = deque(roots)
    while to_place:
        node = to_place.popleft()
        if node.size <= room:
            blocks[-1].roots.append(node)
            room -= node.size
            continue
        if node.size <= budget:
            blocks.append(Block([node]))
            room = budget - node.size
            continue
        limit = min(starts[i] for below in node.walk() for i in below.ends)
        if node.children and limit <= node.start:
            to_place.extendleft(reversed(dissolve(node)))
            continue
        if node.children and limit < node.end:
            split(node, limit)
        blocks.append(Block([node], plan(node.children, budget, starts)))
        room = 0
    return blocks
