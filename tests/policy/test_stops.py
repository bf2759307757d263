"""Stop strings, however tokens cut them."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastslow.policy.stops import StopStrings


def decode_bytes(tokens: Sequence[int]) -> str:
    """A token is a byte, as in the rarest words of byte-level tokenizers."""
    return bytes(tokens).decode("utf-8", errors="replace")


def decode_words(tokens: Sequence[int]) -> str:
    words = ["a", "b", "ab", "</", "answer", ">", "</answer>", " ", "aab", "\n\nQuestion:"]
    return "".join(words[token] for token in tokens)


def first_end(
    texts: Sequence[str], decode: Callable[[Sequence[int]], str], tokens: Sequence[int]
) -> int | None:
    """After how many tokens sampling stops."""
    stops = StopStrings(texts, decode)
    return next((n for n in range(1, len(tokens) + 1) if stops(tokens[:n])), None)


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=40),
    st.lists(st.sampled_from(["</answer>", "aa", "b</", "\nQ", "bab"]), min_size=1, max_size=3),
)
@example([3, 4, 5], ["</answer>"])
@example([6], ["answer"])
def test_sampling_stops_with_the_token_that_completes_a_text(
    tokens: list[int], texts: list[str]
) -> None:
    """It may span tokens, stand within one, or end before the last one does."""
    whole = [decode_words(tokens[:n]) for n in range(1, len(tokens) + 1)]
    expected = next((n for n, text in enumerate(whole, 1) if any(t in text for t in texts)), None)
    assert first_end(texts, decode_words, tokens) == expected


@pytest.mark.parametrize("stop", ["é", "→", "🙂", "né→🙂e"])
@pytest.mark.parametrize("before", ["", "x" * 100, "ß" * 31, "😀" * 30])
def test_characters_of_several_tokens_are_recognised(stop: str, before: str) -> None:
    tokens = list((before + stop + "after").encode())
    assert first_end([stop], decode_bytes, tokens) == len((before + stop).encode())


def test_half_a_character_stops_nothing() -> None:
    assert first_end(["é"], decode_bytes, list("aé".encode())[:-1]) is None


def test_no_more_tokens_are_decoded_than_a_text_can_take() -> None:
    seen: list[int] = []

    def decode(tokens: Sequence[int]) -> str:
        seen.append(len(tokens))
        return decode_bytes(tokens)

    assert first_end(["END"], decode, list(b"x" * 500)) is None
    assert max(seen) <= 4 * len("END") + 4
