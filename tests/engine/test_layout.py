"""How tokens lie in a pass: whatever the blocks, each token reads its own path and nothing else."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prefix_batches import small_parts
from torch import Tensor

from fastslow.engine.kernels import Visible
from fastslow.engine.layout import Layout
from fastslow.engine.tree import Node, grow

CPU = torch.device("cpu")
SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=12)
WINDOWS = st.sampled_from([None, 1, 2, 4, 100])

Stretch = tuple[int, int, int]


def lay(
    roots: Sequence[Node], outside: Sequence[Sequence[Stretch]] | None = None, alone: bool = False
) -> Layout:
    return Layout(roots, [()] * len(roots) if outside is None else outside, alone, CPU)


def read_inside(layout: Layout, window: int | None) -> Tensor:
    """[N, N] how often the blocks of a layout let each token read each other one of the pass."""
    window = layout.effective(window)
    count = layout.tokens.numel()
    reads = torch.zeros(count, count, dtype=torch.long)
    for number, clusters in enumerate(layout.clusters):
        keys = layout.clusters_read(number, window, 1).keys[:, 0]
        places = clusters.places.view(clusters.shape)
        real = clusters.inside.flatten(1)
        for cluster in range(len(keys)):
            query, key = keys[cluster].nonzero(as_tuple=True)
            used = real[cluster, query]  # what stands for padding is computed and left out
            assert bool(real[cluster, key].all()), "no token reads padding"
            reads[places[cluster, query[used]], places[cluster, key[used]]] += 1
    for number, (start, stop) in enumerate(layout.trunks):
        visible = layout.trunk_reads(number, window)
        own = torch.ones(stop - start, stop - start).tril() if visible is None else visible.keys
        reads[start:stop, start:stop] += own.long()
    for number, run in enumerate(layout.runs):
        if run.outside is None:
            reads[run.start : run.stop, run.first : run.last] += as_counts(
                layout.run_reads(number, window, 1)
            )
    return reads


def as_counts(visible: Visible | None) -> Tensor:
    return torch.tensor(1) if visible is None else visible.keys.long()


def expected_inside(roots: Sequence[Node], window: int | None) -> Tensor:
    """The same by the book: a token reads what stands before it on its path."""
    tokens = [
        (node, offset) for r in roots for node in r.walk() for offset in range(len(node.tokens))
    ]
    reads = torch.zeros(len(tokens), len(tokens), dtype=torch.long)
    for i, (node, offset) in enumerate(tokens):
        path = node.path()
        for j, (other, place) in enumerate(tokens):
            distance = node.start + offset - other.start - place
            near = window is None or distance < window
            reads[i, j] = any(other is part for part in path) and distance >= 0 and near
    return reads


@settings(max_examples=100)
@given(SEQUENCES, st.sampled_from([1, 3, 6, 128]), WINDOWS)
@example([[0, 1, 2, 0, 1]] * 2, 3, 2)
@example([[0, 0, 0, 0, i, 1, 1] for i in range(3)], 4, 2)
def test_each_token_reads_its_own_path_once(
    sequences: list[list[int]], cluster: int, window: int | None
) -> None:
    roots = grow(sequences)
    with small_parts(cluster):
        layout = lay(roots)
    torch.testing.assert_close(read_inside(layout, window), expected_inside(roots, window))


@settings(max_examples=60)
@given(SEQUENCES, st.sampled_from([1, 4, 128]))
def test_tokens_lie_without_padding_at_their_positions(
    sequences: list[list[int]], cluster: int
) -> None:
    roots = grow(sequences)
    with small_parts(cluster):
        layout = lay(roots)
    nodes = [node for root in roots for node in root.walk()]
    assert layout.tokens[0].tolist() == [token for node in nodes for token in node.tokens]
    for node in nodes:
        here = slice(layout.place[node], layout.place[node] + len(node.tokens))
        assert tuple(layout.tokens[0, here].tolist()) == node.tokens
        assert layout.positions[0, here].tolist() == list(range(node.start, node.end))


@settings(max_examples=60)
@given(SEQUENCES, st.sampled_from([1, 4, 12]))
def test_clusters_are_small_and_of_like_length(sequences: list[list[int]], cluster: int) -> None:
    with small_parts(cluster):
        layout = lay(grow(sequences))
    for clusters in layout.clusters:
        count, longest = clusters.shape
        assert longest <= cluster
        lengths = clusters.inside.flatten(1).sum(dim=1)
        assert int(lengths.min()) >= 0.6 * longest
        assert clusters.real is None or len(clusters.real) == int(lengths.sum())
        assert (clusters.real is None) == (int(lengths.sum()) == count * longest)


def test_contexts_are_trunks_and_what_is_below_them_runs() -> None:
    contexts = [list(range(10, 18)), list(range(20, 28))]
    roots = grow([[*context, 30 + i, 40, 41] for context in contexts for i in range(3)])
    with small_parts(4):
        layout = lay(roots)
    assert layout.trunks == [(0, 8), (17, 25)]
    assert [(r.start, r.stop, r.first, r.last) for r in layout.runs] == [
        (8, 17, 0, 8),
        (25, 34, 17, 25),
    ]
    assert [clusters.shape for clusters in layout.clusters] == [(6, 3)]


def test_alone_a_node_lies_without_what_is_below_it() -> None:
    (root,) = grow([[1, 2, 3, 4 + i] for i in range(3)])
    layout = lay([root], alone=True)
    assert layout.tokens.tolist() == [[1, 2, 3]]
    torch.testing.assert_close(read_inside(layout, None), torch.ones(3, 3).long().tril())
    with small_parts(2):
        trunk = lay([root], alone=True)
    assert (trunk.trunks, trunk.runs) == ([(0, 3)], [])


# --- what earlier passes computed -------------------------------------------------------------


def below(position: int, token: int) -> Node:
    """Two tokens that follow ``position`` others."""
    node = Node((token, token + 1), position)
    node.size = 2
    return node


def test_roots_side_by_side_read_an_earlier_stretch_in_one_run() -> None:
    system, first, second = (0, 0, 4), (1, 4, 7), (2, 4, 7)
    layout = lay(
        [below(7, 10), below(7, 20), below(7, 30)],
        [[system, first], [system, first], [system, second]],
    )
    runs = {(r.outside, r.start, r.stop, r.first, r.last) for r in layout.runs}
    assert runs == {(0, 0, 6, 0, 4), (1, 0, 4, 4, 7), (2, 4, 6, 4, 7)}


def test_a_stretch_that_others_come_between_is_read_in_two_runs() -> None:
    first, second = (0, 0, 4), (1, 0, 4)
    layout = lay([below(4, 10), below(4, 20), below(4, 30)], [[first], [second], [first]])
    runs = {(r.outside, r.start, r.stop) for r in layout.runs}
    assert runs == {(0, 0, 2), (1, 2, 4), (0, 4, 6)}


@pytest.mark.parametrize("repeats", [1, 2])
def test_a_window_hides_what_is_far_in_an_earlier_pass(repeats: int) -> None:
    layout = lay([below(7, 10)], [[(0, 2, 7)]])
    visible = layout.run_reads(0, 4, repeats)
    assert visible is not None
    # Positions 7 and 8 read back to 4 and 5; the stretch holds positions 2 to 6.
    assert visible.keys.int().tolist() == [
        row for row in ([0, 0, 1, 1, 1], [0, 0, 0, 1, 1]) for _ in range(repeats)
    ]
    assert layout.run_reads(0, 7, repeats) is None, "nothing is hidden, so nothing is masked"


# --- masks ------------------------------------------------------------------------------------


def test_a_window_that_no_token_reaches_is_none() -> None:
    layout = lay(grow([[1, 2, 3, 4, 5]]))
    assert layout.effective(4) == 4  # position 4 does not read position 0
    assert layout.effective(5) is None
    assert layout.effective(None) is None


def test_layers_share_their_masks() -> None:
    with small_parts(3):
        layout = lay(grow([[0, 1, 2, 0, 1, i] for i in range(3)]))
    for window in (None, 2):
        assert layout.clusters_read(0, window, 1) is layout.clusters_read(0, window, 1)
    assert layout.clusters_read(0, 2, 1) is not layout.clusters_read(0, None, 1)
    assert layout.trunk_reads(0, 2) is layout.trunk_reads(0, 2)
    assert layout.run_reads(0, 2, 2) is layout.run_reads(0, 2, 2)
    assert layout.run_reads(0, 2, 2) is not layout.run_reads(0, 2, 1)
