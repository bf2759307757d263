"""The cache of rows under way against plain lists of tokens."""

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from torch import Tensor

from fastslow.engine import rows as rows_module
from fastslow.engine.attention import KeyValues
from fastslow.engine.rows import RowCache

LAYERS, HEADS, SIZE = 2, 2, 3


def numbered(tokens: list[int]) -> KeyValues:
    """Keys and values that tell the token, the layer, the head and which of the two they are."""
    numbers = torch.tensor(tokens, dtype=torch.float32)
    heads = torch.arange(HEADS) / 8

    def layer(offset: float) -> Tensor:
        return (numbers + offset + heads[:, None])[:, :, None].expand(-1, -1, SIZE)

    return KeyValues(
        [layer(n / 2) for n in range(LAYERS)], [layer(n / 2 + 0.25) for n in range(LAYERS)]
    )


class Rows(RuleBasedStateMachine):
    """Rows come, take tokens, are copied, moved and dropped, as in continuous batching."""

    @initialize()
    def begin(self) -> None:
        self.cache = RowCache(numbered([0]))
        self.rows: list[list[int]] = []  # by slot
        self.token = 0

    def new_token(self) -> int:
        self.token += 1
        return self.token

    @rule(data=st.data())
    def append(self, data: st.DataObject) -> None:
        source = [self.new_token() for _ in range(6)]
        places = data.draw(
            st.lists(st.lists(st.integers(0, 5), max_size=6), min_size=1, max_size=3)
        )
        slots = len(self.rows) + len(places) + data.draw(st.integers(0, 3))
        longest = max(map(len, [*self.rows, *places]))
        self.capacity = longest + data.draw(st.integers(0, 40))
        self.cache.append(numbered(source), places, slots, self.capacity)
        assert self.cache.slots == slots
        self.rows += [[source[place] for place in some] for some in places]

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def keep(self, data: st.DataObject) -> None:
        most = min(5, self.cache.slots)
        slots = data.draw(st.lists(st.integers(0, len(self.rows) - 1), max_size=most))
        placed = self.cache.keep(slots)
        assert sorted(placed) == list(range(len(slots)))
        by_slot = dict(zip(placed, slots, strict=True))
        self.rows = [list(self.rows[by_slot[slot]]) for slot in range(len(slots))]

    @precondition(lambda self: self.rows and self.cache.longest < self.capacity)
    @rule()
    def decode(self) -> None:
        tokens = [self.new_token() for _ in self.rows]
        new = numbered(tokens)
        used = self.cache.longest + 1
        self.cache.reserve_token()
        for row, token in zip(self.rows, tokens, strict=True):
            row.append(token)
        for layer in range(LAYERS):
            keys, values = self.cache.write(
                layer, new.keys[layer].transpose(0, 1), new.values[layer].transpose(0, 1), used
            )
            assert keys.shape == values.shape == (len(self.rows), HEADS, used, SIZE)
            for slot, row in enumerate(self.rows):
                expected = numbered(row)
                assert torch.equal(keys[slot, :, : len(row)], expected.keys[layer])
                assert torch.equal(values[slot, :, : len(row)], expected.values[layer])
        self.cache.advance()

    @invariant()
    def lengths_are_those_of_the_rows(self) -> None:
        lengths = list(map(len, self.rows))
        assert self.cache.lengths.tolist() == lengths
        assert self.cache.rows == len(lengths)
        assert self.cache.longest == max(lengths, default=0)


@pytest.mark.parametrize("page", [1, 32])
def test_rows_hold_what_was_put_there(page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots grow by single tokens, and as they come."""
    monkeypatch.setattr(rows_module, "_PAGE", page)
    run_state_machine_as_test(Rows, settings=settings(max_examples=40, stateful_step_count=15))
