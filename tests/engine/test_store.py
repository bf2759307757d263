"""What is kept between calls: each stretch with its own keys; the longest unused goes first."""

from collections.abc import Sequence

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastslow.engine.attention import KeyValues
from fastslow.engine.store import PrefixStore, Stretch

TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=7)


def key_values(prefix: Sequence[int], tokens: Sequence[int]) -> KeyValues:
    """Two layers; each token's key tells the sequence up to it, its value the position too."""
    paths = [[*prefix, *tokens[: place + 1]] for place in range(len(tokens))]
    numbers = torch.tensor([float(hash(tuple(path)) % 2**20) for path in paths])
    keys = numbers[None, :, None].expand(1, len(tokens), 2)
    places = torch.tensor([float(len(path)) for path in paths])[None, :, None]
    return KeyValues([keys, keys + 0.5], [keys + places, keys - places])


def add(store: PrefixStore, tokens: Sequence[int]) -> None:
    """Store what is new of these tokens."""
    path = store.match(tokens)
    known = path[-1].end if path else 0
    if known < len(tokens):
        rest = tuple(tokens[known:])
        store.add(path[-1] if path else None, rest, key_values(tokens[:known], rest))


def assert_spells(path: Sequence[Stretch], tokens: Sequence[int]) -> None:
    """A match is the beginning of the tokens, with the keys and values that belong there."""
    position = 0
    for stretch in path:
        assert stretch.start == position
        assert list(stretch.tokens) == list(tokens[position : stretch.end])
        expected = key_values(tokens[:position], stretch.tokens)
        for ours, theirs in zip(
            [*stretch.key_values.keys, *stretch.key_values.values],
            [*expected.keys, *expected.values],
            strict=True,
        ):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
        position = stretch.end


def longest_known(stored: Sequence[Sequence[int]], tokens: Sequence[int]) -> int:
    return max(
        (
            length
            for known in stored
            for length in range(min(len(known), len(tokens)) + 1)
            if list(known[:length]) == list(tokens[:length])
        ),
        default=0,
    )


@settings(max_examples=150)
@given(st.lists(TOKENS, max_size=8), st.lists(TOKENS, min_size=1, max_size=4))
def test_the_longest_stored_beginning_is_found(
    stored: list[list[int]], asked: list[list[int]]
) -> None:
    store = PrefixStore(1000)
    for tokens in stored:
        add(store, tokens)
    prefixes = {tuple(s[: n + 1]) for s in stored for n in range(len(s))}
    assert store.tokens == len(prefixes), "nothing is stored twice"
    for tokens in [*asked, *stored]:
        path = store.match(tokens)
        assert_spells(path, tokens)
        assert (path[-1].end if path else 0) == longest_known(stored, tokens)
    assert store.tokens == len(prefixes), "cutting a stretch changes nothing"


@settings(max_examples=150)
@given(st.lists(TOKENS, min_size=1, max_size=8), st.integers(0, 12))
def test_a_trimmed_store_is_within_its_capacity_and_still_right(
    stored: list[list[int]], capacity: int
) -> None:
    store = PrefixStore(1000)
    for tokens in stored:
        add(store, tokens)
    before = store.tokens
    store.trim(capacity)
    assert store.tokens <= capacity or before <= capacity
    assert before > capacity or store.tokens == before, "nothing goes without need"
    for tokens in stored:
        assert_spells(store.match(tokens), tokens)
    kept = {tuple(s[: n + 1]) for s in stored for n in range(longest_known_in(store, s))}
    assert store.tokens == len(kept)


def longest_known_in(store: PrefixStore, tokens: Sequence[int]) -> int:
    path = store.match(tokens)
    return path[-1].end if path else 0


def test_the_longest_unused_goes_first_and_what_others_follow_stays() -> None:
    store = PrefixStore(100)
    for last in ([3, 4], [5, 6], [7, 8]):
        add(store, [1, 2, *last])
    store.match([1, 2, 3, 4])  # asked for again: the youngest now
    store.trim(6)
    assert longest_known_in(store, [1, 2, 5, 6]) == 2
    assert longest_known_in(store, [1, 2, 7, 8]) == 4
    assert longest_known_in(store, [1, 2, 3, 4]) == 4
    store.trim(4)
    assert [longest_known_in(store, [1, 2, last, last + 1]) for last in (3, 7)] == [4, 2]
    store.trim(1)
    assert store.tokens == 0, "a beginning goes after all that follow it"
    assert store.match([1, 2]) == []


def test_a_cleared_store_knows_nothing() -> None:
    store = PrefixStore(100)
    add(store, [1, 2, 3])
    store.clear()
    assert store.match([1, 2, 3]) == []
    assert store.tokens == 0
    add(store, [1, 2, 4])
    assert_spells(store.match([1, 2, 4]), [1, 2, 4])
