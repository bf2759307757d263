"""The prefix tree: nothing stands there twice, and nothing is lost."""

from collections.abc import Sequence

from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastslow.engine.tree import Node, common_length, dissolve, grow, measure, split

Tokens = Sequence[int]

ALPHABET = st.integers(0, 2)  # few tokens, so that random sequences begin alike
SEQUENCES = st.lists(st.lists(ALPHABET, min_size=1, max_size=7), max_size=12)

CONTEXTS = [[9, 9, 1, 1], [9, 9, 2, 2]]
ROLLOUTS = [[*context, 10 + problem, 20] for context in CONTEXTS for problem in range(3)]


def nodes_of(roots: Sequence[Node]) -> list[Node]:
    return [node for root in roots for node in root.walk()]


def spelled(node: Node) -> list[int]:
    """The tokens from the root to the end of a node."""
    return [token for part in node.path() for token in part.tokens]


def read_back(roots: Sequence[Node]) -> dict[int, list[int]]:
    """Each sequence as the tree spells it."""
    ends = [(index, node) for node in nodes_of(roots) for index in node.ends]
    assert len({index for index, _ in ends}) == len(ends), "a sequence ends in one node"
    return {index: spelled(node) for index, node in ends}


def assert_sound(roots: Sequence[Node]) -> None:
    """Links, positions and sizes fit."""
    for root in roots:
        assert root.parent is None
        assert root.start == 0
    for node in nodes_of(roots):
        assert node.tokens
        assert node.end == node.start + len(node.tokens)
        assert node.size == sum(len(below.tokens) for below in node.walk())
        for child in node.children:
            assert child.parent is node
            assert child.start == node.end


@settings(max_examples=150)
@given(SEQUENCES)
@example([])
@example([[1, 2, 3]] * 4)
@example([[0], [0, 0], [0, 0, 0]])
@example(ROLLOUTS)
def test_every_shared_token_stands_there_once(sequences: list[list[int]]) -> None:
    roots = grow(sequences)
    assert_sound(roots)
    assert read_back(roots) == dict(enumerate(sequences))
    prefixes = {tuple(s[:length]) for s in sequences for length in range(1, len(s) + 1)}
    assert sum(len(node.tokens) for node in nodes_of(roots)) == len(prefixes)


@settings(max_examples=100)
@given(SEQUENCES)
def test_nodes_end_where_sequences_part_or_end_and_nowhere_else(
    sequences: list[list[int]],
) -> None:
    for node in nodes_of(grow(sequences)):
        assert len(node.children) > 1 or node.ends
        first = [child.tokens[0] for child in node.children]
        assert first == sorted(set(first))


def test_contexts_questions_and_completions_are_the_levels_of_the_tree() -> None:
    (system,) = grow(ROLLOUTS)
    assert (system.tokens, system.start, system.size) == ((9, 9), 0, 2 + 2 * (2 + 3 * 2))
    assert [context.tokens for context in system.children] == [(1, 1), (2, 2)]
    leaves = system.children[1].children
    assert [(leaf.tokens, leaf.start, leaf.ends) for leaf in leaves] == [
        ((10, 20), 4, [3]),
        ((11, 20), 4, [4]),
        ((12, 20), 4, [5]),
    ]
    assert [node.tokens[0] for node in system.walk()] == [9, 1, 10, 11, 12, 2, 10, 11, 12]
    assert leaves[0].path() == [system, system.children[1], leaves[0]]


@settings(max_examples=100)
@given(SEQUENCES.filter(bool), st.data())
def test_a_split_node_spells_the_same(sequences: list[list[int]], data: st.DataObject) -> None:
    roots = grow(sequences)
    long = [node for node in nodes_of(roots) if len(node.tokens) > 1]
    if not long:
        return
    node = data.draw(st.sampled_from(long))
    position = data.draw(st.integers(node.start + 1, node.end - 1))
    split(node, position)
    assert node.end == position
    assert len(node.children) == 1
    assert_sound(roots)
    assert read_back(roots) == dict(enumerate(sequences))


@settings(max_examples=100)
@given(SEQUENCES.filter(bool), st.data())
def test_a_dissolved_node_is_computed_by_every_reader(
    sequences: list[list[int]], data: st.DataObject
) -> None:
    roots = grow(sequences)
    node = data.draw(st.sampled_from(nodes_of(roots)))
    readers = len(node.children) + bool(node.ends)
    before = sum(root.size for root in roots)
    siblings = node.parent.children if node.parent else roots
    parts = dissolve(node)
    assert len(parts) == readers
    assert sum(part.size for part in parts) == node.size + (readers - 1) * len(node.tokens)
    siblings[:] = [new for each in siblings for new in (parts if each is node else [each])]
    measure(roots)  # ``dissolve`` measures what it makes, not what is above
    assert_sound(roots)
    assert read_back(roots) == dict(enumerate(sequences))
    assert sum(root.size for root in roots) == before + (readers - 1) * len(node.tokens)


@given(st.lists(ALPHABET, max_size=9), st.lists(ALPHABET, max_size=9))
def test_common_beginnings_are_counted(first: list[int], second: list[int]) -> None:
    length = common_length(first, second)
    assert first[:length] == second[:length]
    assert first[: length + 1] != second[: length + 1] or length == min(len(first), len(second))
