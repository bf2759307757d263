"""Seeds depend on their place and on nothing else."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from fastslow.seeding import derive_seed

# The parts of a place are joined by a control character that no id is made of.
TEXT = st.text(st.characters(exclude_characters="\x1f", exclude_categories=["Cs"]))
PLACES = st.lists(st.integers() | TEXT, max_size=4)


@given(PLACES)
def test_seeds_have_63_bits_and_repeat(place: list[int | str]) -> None:
    seed = derive_seed(*place)
    assert 0 <= seed < 2**63
    assert derive_seed(*place) == seed


@given(PLACES, PLACES)
def test_different_places_have_different_seeds(
    one: list[int | str], other: list[int | str]
) -> None:
    assert (derive_seed(*one) == derive_seed(*other)) == (one == other)


def test_a_number_is_not_the_text_of_it() -> None:
    assert derive_seed(1) != derive_seed("1")
    assert derive_seed(1, 2) != derive_seed(12)
    assert derive_seed("a", "b") != derive_seed("b", "a")


def test_seeds_are_the_same_in_every_process_and_release() -> None:
    """A run can be repeated with a later release only if these stay."""
    assert derive_seed(0, "slow", 3, "p1", 7) == 1856338933871693341
    code = "from fastslow.seeding import derive_seed; print(derive_seed(0, 'slow', 3, 'p1', 7))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(found.stdout) == derive_seed(0, "slow", 3, "p1", 7)


def test_bits_are_spread() -> None:
    seeds = [derive_seed(0, number) for number in range(2000)]
    assert len(set(seeds)) == 2000
    for bit in (0, 31, 62):
        assert 900 < sum(seed >> bit & 1 for seed in seeds) < 1100
