"""Which prefixes are shared: nothing lost, nothing shared that is not alike, nothing cheaper."""

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastslow.engine.plan import SharedGroup, share_prefixes

Tokens = Sequence[int]

ALPHABET = st.integers(0, 2)  # few tokens, so that random sequences begin alike
SEQUENCE = st.lists(ALPHABET, min_size=1, max_size=7)


def cost(groups: Sequence[SharedGroup], sequences: Sequence[Tokens]) -> int:
    """Tokens that are computed: each prefix once, the rest of each member apart."""
    return sum(g.length + sum(len(sequences[i]) - g.length for i in g.members) for g in groups)


def partitions(indices: list[int]) -> Iterator[list[list[int]]]:
    if not indices:
        yield []
        return
    first, *others = indices
    for parts in partitions(others):
        yield [[first], *parts]
        for number in range(len(parts)):
            yield [*parts[:number], [first, *parts[number]], *parts[number + 1 :]]


def longest_shared(sequences: Sequence[Tokens]) -> int:
    """Tokens that all have in common, the last token of each left out."""
    length = 0
    while length < min(map(len, sequences)) - 1 and len({s[length] for s in sequences}) == 1:
        length += 1
    return length


def cheapest(sequences: Sequence[Tokens]) -> int:
    """The least cost over every partition there is."""

    def part_cost(part: list[int]) -> int:
        members = [sequences[i] for i in part]
        return sum(map(len, members)) - (len(part) - 1) * longest_shared(members)

    return min(sum(map(part_cost, parts)) for parts in partitions(list(range(len(sequences)))))


# A prompt of one problem beside a context with many: the rest must not keep it from sharing.
ONE_DEEP_BRANCH = [[0, 1], [0, 2, 1], *[[0, 0, 0, 0, 0, i] for i in range(3)]]
PREFIX_OF_THE_OTHERS = [[0, 0], [0, 0, 1, 1, 1, 0], [0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 2]]


@settings(max_examples=150)
@given(st.lists(SEQUENCE, min_size=1, max_size=6))
@example(ONE_DEEP_BRANCH)
@example(PREFIX_OF_THE_OTHERS)
def test_no_partition_computes_fewer_tokens(sequences: list[list[int]]) -> None:
    assert cost(share_prefixes(sequences), sequences) == cheapest(sequences)


@settings(max_examples=150)
@given(st.lists(SEQUENCE, min_size=1, max_size=12))
def test_groups_are_a_partition_with_prefixes_that_are_shared(sequences: list[list[int]]) -> None:
    groups = share_prefixes(sequences)
    assert sorted(i for g in groups for i in g.members) == list(range(len(sequences)))
    for group in groups:
        prefixes = {tuple(sequences[i][: group.length]) for i in group.members}
        assert len(prefixes) == 1
        assert all(len(sequences[i]) > group.length for i in group.members)
    assert cost(groups, sequences) <= sum(map(len, sequences))


def test_the_prompts_of_two_contexts_make_two_groups() -> None:
    system = [9, 9]
    contexts = [[*system, 1, 1, 1, 1], [*system, 2, 2, 2, 2]]
    prompts = [[*context, 10 + problem, 20] for context in contexts for problem in range(3)]
    assert share_prefixes(prompts) == [SharedGroup(6, (0, 1, 2)), SharedGroup(6, (3, 4, 5))]


def test_equal_prompts_share_all_but_the_token_whose_output_is_asked_for() -> None:
    assert share_prefixes([[1, 2, 3]] * 4) == [SharedGroup(2, (0, 1, 2, 3))]


@pytest.mark.parametrize("sequences", [[[1, 2, 3]], [[1, 2], [3, 4]], [[5], [5]]])
def test_what_shares_nothing_is_computed_whole(sequences: list[list[int]]) -> None:
    assert share_prefixes(sequences) == [SharedGroup(0, tuple(range(len(sequences))))]


def test_an_empty_batch_has_no_groups() -> None:
    assert share_prefixes([]) == []
