"""The shared-prefix engine: what several sequences begin with is computed once for all of them.

In FST many rollouts read the same few contexts. Their tokens go through the model once per context,
in sampling, in scoring and in the gradient; only the rest of each sequence is computed apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fastslow.engine import attention
from fastslow.engine.attention import AttentionPass, KeyValues, RowCache, RowGroup
from fastslow.engine.base import Engine, PassScores, TokenSequence, batches_by_tokens
from fastslow.engine.head import Head, score_tokens
from fastslow.engine.plan import SharedGroup, share_prefixes
from fastslow.engine.sampling import Decoder


class SharedPrefixEngine(Engine):
    """Serves models that call their attention through transformers' ``AttentionInterface``.

    It switches the model to its own attention function for good.

    Attributes:
        windowed: whether the model has asked for a sliding window in any pass so far.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokens_per_pass: int,
        compute_dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(model, tokens_per_pass, compute_dtype)
        self.windowed = False
        attention.register()
        model.set_attn_implementation(attention.NAME)
        self._body = model.get_decoder()  # type: ignore[no-untyped-call]
        self._head = model.get_output_embeddings()  # type: ignore[no-untyped-call]

    def passes(
        self, sequences: Sequence[TokenSequence], temperature: float
    ) -> Iterator[PassScores]:
        # The last completion token is predicted, never read.
        inputs = [[*s.prompt, *s.completion[:-1]] for s in sequences]
        groups = share_prefixes([s.prompt for s in sequences])
        for some in _within_budget(groups, self.tokens_per_pass):
            computed, prefixes = self._prefixes(inputs, some)
            leaves = [_cut(prefix) for prefix in prefixes]
            rows = [
                (number, index)
                for number, group in enumerate(some)
                for index in sorted(group.members, key=lambda i: len(inputs[i]))
            ]
            lengths = [len(inputs[index]) - some[number].length for number, index in rows]
            for run in batches_by_tokens(lengths, self.tokens_per_pass):
                chosen = [rows[position] for position in run]
                indices = [index for _, index in chosen]
                starts = [some[number].length for number, _ in chosen]
                hidden = self._run(
                    [inputs[i][start:] for i, start in zip(indices, starts, strict=True)],
                    starts,
                    AttentionPass(_row_groups([number for number, _ in chosen], leaves)),
                )
                ends = [len(inputs[i]) - start for i, start in zip(indices, starts, strict=True)]
                predictions = torch.cat(
                    [
                        hidden[row, end - len(sequences[i].completion) : end]
                        for row, (i, end) in enumerate(zip(indices, ends, strict=True))
                    ]
                )
                targets = torch.tensor(
                    [token for i in indices for token in sequences[i].completion],
                    device=self.device,
                )
                scores = score_tokens(self._head, predictions, targets, temperature)
                yield PassScores(indices, scores, sum(ends) + computed)
                computed = 0
            _backward_through(prefixes, leaves)

    def decoding(self) -> tuple[Decoder, Head]:
        return _SharedDecoder(self), self._head

    def _prefixes(
        self, sequences: Sequence[Sequence[int]], groups: Sequence[SharedGroup]
    ) -> tuple[int, list[KeyValues | None]]:
        """The number of prefix tokens computed, and each group's keys and values."""
        prefixes: list[KeyValues | None] = [None] * len(groups)
        shared = [number for number, group in enumerate(groups) if group.length]
        shared.sort(key=lambda number: groups[number].length)
        lengths = [groups[number].length for number in shared]
        for run in batches_by_tokens(lengths, self.tokens_per_pass):
            numbers = [shared[position] for position in run]
            rows = [
                sequences[groups[number].members[0]][: groups[number].length] for number in numbers
            ]
            recorded = self._record(rows, [0] * len(rows), [RowGroup(0, len(rows))])[1]
            for row, number in enumerate(numbers):
                length = groups[number].length
                prefixes[number] = KeyValues(
                    [keys[row, :, :length] for keys in recorded.keys],
                    [values[row, :, :length] for values in recorded.values],
                )
        return sum(lengths), prefixes

    def _record(
        self, rows: Sequence[Sequence[int]], starts: Sequence[int], groups: Sequence[RowGroup]
    ) -> tuple[Tensor, KeyValues]:
        """Hidden states of rows, [R, S, hidden], and the keys and values of their tokens."""
        attention_pass = AttentionPass(groups, record=True)
        hidden = self._run(rows, starts, attention_pass)
        return hidden, attention_pass.recorded

    def _run(
        self,
        rows: Sequence[Sequence[int]],
        starts: Sequence[int],
        attention_pass: AttentionPass,
    ) -> Tensor:
        """[R, S, hidden] after rows, padded on the right, that begin at these positions."""
        longest = max(map(len, rows))
        tokens = torch.tensor(
            [[*row, *[0] * (longest - len(row))] for row in rows], device=self.device
        )
        positions = torch.tensor(starts, device=self.device)[:, None] + torch.arange(
            longest, device=self.device
        )
        with attention.running(attention_pass):
            hidden: Tensor = self._body(
                input_ids=tokens, position_ids=positions, use_cache=False
            ).last_hidden_state
        self.windowed |= attention_pass.windowed
        return hidden


class _SharedDecoder:
    """Rows that continue shared prefixes, with a cache of their own tokens."""

    def __init__(self, engine: SharedPrefixEngine) -> None:
        self._engine = engine

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        engine = self._engine
        groups = share_prefixes(prompts)
        self._prefixes = engine._prefixes(prompts, groups)[1]
        rows = [(number, index) for number, group in enumerate(groups) for index in group.members]
        rests = [prompts[index][groups[number].length :] for number, index in rows]
        hidden: list[Tensor] = []
        caches: list[KeyValues] = []
        for run in batches_by_tokens(list(map(len, rests)), engine.tokens_per_pass):
            chosen = [rows[position] for position in run]
            tokens = [rests[position] for position in run]
            starts = [groups[number].length for number, _ in chosen]
            row_groups = _row_groups([number for number, _ in chosen], self._prefixes)
            states, recorded = engine._record(tokens, starts, row_groups)
            hidden += [state[len(row) - 1] for state, row in zip(states, tokens, strict=True)]
            caches.append(recorded)
        lengths = torch.tensor(list(map(len, rests)), device=engine.device)
        self._cache = RowCache(
            _stack_layers([cache.keys for cache in caches]),
            _stack_layers([cache.values for cache in caches]),
            lengths,
        )
        self._numbers = [number for number, _ in rows]
        self._starts = torch.tensor(
            [groups[number].length for number in self._numbers], device=engine.device
        )
        self._row_groups = _row_groups(self._numbers, self._prefixes)
        # The caller counts rows as the prompts were given, the cache as the groups lie.
        place = {index: row for row, (_, index) in enumerate(rows)}
        self._order = torch.tensor([place[u] for u in range(len(prompts))], device=engine.device)
        return torch.stack(hidden).index_select(0, self._order)

    def select(self, rows: Tensor) -> None:
        wanted = self._order.index_select(0, rows)
        # Rows of one group must stay side by side.
        sorting = wanted.argsort(stable=True)
        chosen = wanted.index_select(0, sorting)
        self._cache.select(chosen)
        self._starts = self._starts.index_select(0, chosen)
        self._numbers = [self._numbers[row] for row in chosen.tolist()]
        self._row_groups = _row_groups(self._numbers, self._prefixes)
        self._order = sorting.argsort()

    def step(self, tokens: Tensor) -> Tensor:
        engine = self._engine
        placed = torch.empty_like(tokens)
        placed[self._order] = tokens
        self._cache.reserve()
        with attention.running(AttentionPass(self._row_groups, cache=self._cache)):
            hidden: Tensor = engine._body(
                input_ids=placed[:, None],
                position_ids=(self._starts + self._cache.lengths)[:, None],
                use_cache=False,
            ).last_hidden_state
        self._cache.advance()
        return hidden[:, 0].index_select(0, self._order)


def _within_budget(groups: Sequence[SharedGroup], budget: int) -> Iterator[list[SharedGroup]]:
    """Runs of groups whose prefixes together stay within the budget: they are held at one time."""
    some: list[SharedGroup] = []
    held = 0
    for group in groups:
        if some and held + group.length > budget:
            yield some
            some, held = [], 0
        some.append(group)
        held += group.length
    if some:
        yield some


def _row_groups(numbers: Sequence[int], prefixes: Sequence[KeyValues | None]) -> list[RowGroup]:
    """Runs of equal group numbers as row groups with that group's prefix."""
    groups: list[RowGroup] = []
    start = 0
    for row in range(1, len(numbers) + 1):
        if row == len(numbers) or numbers[row] != numbers[start]:
            groups.append(RowGroup(start, row, prefixes[numbers[start]]))
            start = row
    return groups


def _stack_layers(parts: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Caches [R_i, J, S_i, D] per layer, padded to the longest S and joined along the rows."""
    longest = max(part[0].shape[2] for part in parts)
    return [
        torch.cat(
            [
                torch.nn.functional.pad(tensor, (0, 0, 0, longest - tensor.shape[2]))
                for tensor in layer
            ]
        )
        for layer in zip(*parts, strict=True)
    ]


def _cut(prefix: KeyValues | None) -> KeyValues | None:
    """The prefix as leaves that collect the gradients of all the rows that read it."""
    if prefix is None or not torch.is_grad_enabled():
        return prefix
    return KeyValues(
        [keys.detach().requires_grad_() for keys in prefix.keys],
        [values.detach().requires_grad_() for values in prefix.values],
    )


def _backward_through(
    prefixes: Sequence[KeyValues | None], leaves: Sequence[KeyValues | None]
) -> None:
    """Carry the gradients that the rows left in the leaves on to the parameters, once.

    Rows are computed pass by pass, each with its own backward; the prefix they share keeps its
    graph until all of them have read it. Its gradient is the sum of theirs.
    """
    if not torch.is_grad_enabled():
        return
    tensors, gradients = [], []
    for prefix, leaf in zip(prefixes, leaves, strict=True):
        if prefix is None or leaf is None:
            continue
        for tensor, cut in zip(
            [*prefix.keys, *prefix.values], [*leaf.keys, *leaf.values], strict=True
        ):
            if cut.grad is not None and tensor.requires_grad:
                tensors.append(tensor)
                gradients.append(cut.grad)
    if tensors:
        torch.autograd.backward(tensors, gradients)
