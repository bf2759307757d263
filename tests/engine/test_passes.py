"""Cutting a tree into passes: within the budget, nothing torn apart that is asked for together."""

from collections.abc import Iterator, Sequence

from hypothesis import example, given, settings
from hypothesis import strategies as st
from prefix_batches import small_parts

from fastslow.engine.passes import Block, plan, prune
from fastslow.engine.tree import Node, grow

TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=7)
PROMPTED = st.lists(st.tuples(TOKENS, st.integers(0, 6)), min_size=1, max_size=12)
"""Sequences, and for each how far before its last token its outputs begin to be asked for."""

BUDGETS = st.sampled_from([1, 2, 5, 12, 1000])
CONTEXT = list(range(10, 30))


def tokens_of(roots: Sequence[Node]) -> int:
    return sum(len(node.tokens) for root in roots for node in root.walk())


def starts_of(prompted: Sequence[tuple[list[int], int]]) -> list[int]:
    return [max(0, len(tokens) - 1 - back) for tokens, back in prompted]


def computed(
    blocks: Sequence[Block], above: Sequence[Node] = ()
) -> Iterator[tuple[Block, list[Node], list[Node]]]:
    """Every pass with the nodes that it computes and those that earlier passes computed for it."""
    for block in blocks:
        if block.below:
            assert len(block.roots) == 1
            yield block, list(block.roots), list(above)
            yield from computed(block.below, [*above, *block.roots])
        else:
            yield block, [node for root in block.roots for node in root.walk()], list(above)


@settings(max_examples=150)
@given(PROMPTED, BUDGETS)
@example([([*CONTEXT, i], 0) for i in range(4)], 22)
@example([([*CONTEXT, i], 2) for i in range(4)], 22)  # the question alone exceeds the budget
def test_every_sequence_is_computed_whole_and_what_is_asked_of_it_in_one_pass(
    prompted: list[tuple[list[int], int]], budget: int
) -> None:
    starts = starts_of(prompted)
    found: dict[int, list[int]] = {}
    for block, nodes, above in computed(plan(grow([s for s, _ in prompted]), budget, starts)):
        for node in nodes:
            if block.below:
                assert not node.ends, "outputs are asked for of passes that nothing continues"
            for index in node.ends:
                assert index not in found
                path = node.path()
                assert path[: len(above)] == above
                assert all(part in nodes for part in path[len(above) :])
                found[index] = [token for part in path for token in part.tokens]
                assert (above[-1].end if above else 0) <= starts[index]
    assert found == {index: sequence for index, (sequence, _) in enumerate(prompted)}


@settings(max_examples=150)
@given(PROMPTED, BUDGETS)
def test_only_a_single_stretch_exceeds_the_budget(
    prompted: list[tuple[list[int], int]], budget: int
) -> None:
    roots = grow([s for s, _ in prompted])
    for _, nodes, _ in computed(plan(roots, budget, starts_of(prompted))):
        assert len(nodes) == 1 or sum(len(n.tokens) for n in nodes) <= budget


@given(PROMPTED)
def test_what_fits_is_computed_in_one_pass_without_repeating_a_token(
    prompted: list[tuple[list[int], int]],
) -> None:
    roots = grow([s for s, _ in prompted])
    tokens = tokens_of(roots)
    (block,) = plan(roots, tokens, starts_of(prompted))
    assert not block.below
    assert tokens_of(block.roots) == tokens


def test_small_subtrees_fill_a_pass() -> None:
    roots = grow([[10 + i, 1, 2] for i in range(7)])
    blocks = plan(roots, 7, [2] * 7)
    assert [len(block.roots) for block in blocks] == [2, 2, 2, 1]


def test_a_context_is_computed_once_however_many_passes_read_it() -> None:
    roots = grow([[*CONTEXT, 40 + i, 1, 2] for i in range(6)])
    (context,) = plan(roots, 7, [len(CONTEXT) + 2] * 6)
    assert context.roots[0].tokens == tuple(CONTEXT)
    assert [len(block.roots) for block in context.below] == [2, 2, 2]


def test_the_last_prompt_token_goes_with_what_it_predicts() -> None:
    # All four share the prompt, whose last token's output is asked for beside the others'.
    (context,) = plan(grow([[*CONTEXT, 40 + i, 1, 2] for i in range(4)]), 9, [len(CONTEXT) - 1] * 4)
    assert context.roots[0].tokens == tuple(CONTEXT[:-1])
    below = [root.tokens[0] for block in context.below for root in block.roots]
    assert below == [CONTEXT[-1]] * 4


@settings(max_examples=100)
@given(PROMPTED, st.sampled_from([1, 4, 128]), st.sampled_from([0, 3, 16]))
def test_pruning_computes_a_little_again_and_loses_nothing(
    prompted: list[tuple[list[int], int]], cluster: int, worth: int
) -> None:
    sequences = [sequence for sequence, _ in prompted]
    before = tokens_of(grow(sequences))
    with small_parts(cluster, worth):
        roots = prune(grow(sequences))
    nodes = [node for root in roots for node in root.walk()]
    found = {
        index: [token for part in node.path() for token in part.tokens]
        for node in nodes
        for index in node.ends
    }
    assert found == dict(enumerate(sequences))
    for node in nodes:
        assert node.size == tokens_of([node])
        assert all(child.parent is node for child in node.children)
        readers = len(node.children) + bool(node.ends)
        if node.size > cluster and node.children:
            assert (readers - 1) * len(node.tokens) >= worth, "a trunk saves what it costs"
    after = tokens_of(roots)
    assert after >= before
    if worth == 0 or before <= cluster:
        assert after == before


def test_pruning_keeps_trunks_that_many_read() -> None:
    few = [[1, 2, 10 + i, *range(20, 90)] for i in range(2)]
    many = [[*CONTEXT, 40 + i, *range(50, 120)] for i in range(2)]
    roots = prune(grow(few + many))
    assert [len(root.tokens) for root in roots] == [73, 73, len(CONTEXT)]
    assert all(not root.children for root in roots[:2])
