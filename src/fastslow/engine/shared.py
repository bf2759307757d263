"""The engine over prefix trees: what several sequences begin with is computed once for all of them.

In FST many rollouts read the same few contexts, and several the same question under a context. Each
of these tokens goes through the model once, in sampling, in scoring and in the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from fastslow.engine import attention
from fastslow.engine.attention import Earlier, ForwardPass, KeyValues
from fastslow.engine.base import Against, Engine, PassScores
from fastslow.engine.cascade import TreePass
from fastslow.engine.decoding import SharedDecoder
from fastslow.engine.divergence import TokenLogits, divergences
from fastslow.engine.head import logits_of, score_tokens
from fastslow.engine.layout import Layout
from fastslow.engine.linear import PackedWeight, accelerate
from fastslow.engine.passes import Block, plan, prune
from fastslow.engine.sampling import Decoder, SamplingLimits
from fastslow.engine.store import PrefixStore
from fastslow.engine.tree import Node, grow
from fastslow.types import TokenSequence

GIBIBYTE = 2**30


class SharedPrefixEngine(Engine):
    """Serves models that call their attention through transformers' ``AttentionInterface``.

    It switches the model to its own attention function and linear layers for good.

    Args:
        model: see ``Engine``.
        tokens_per_pass: see ``Engine``.
        kv_memory: bytes of keys and values that sampling may hold: the work is split to stay
            within. A single completion is sampled whatever it takes.

    Attributes:
        windowed: whether the model has asked for a sliding window in any pass so far.
        kv_tokens: tokens whose keys and values fit into that memory.
        example: keys and values of one token.
        store: keys and values of prefixes, kept from call to call.
    """

    def __init__(
        self, model: PreTrainedModel, tokens_per_pass: int, kv_memory: float = 4 * GIBIBYTE
    ) -> None:
        super().__init__(model, tokens_per_pass)
        self.windowed = False
        attention.register()
        model.set_attn_implementation(attention.NAME)
        self._packed = accelerate(model)
        self._body = model.get_decoder()  # type: ignore[no-untyped-call]
        self.head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        if not isinstance(self.head, nn.Linear):
            raise TypeError(f"its head is a {type(self.head).__name__}, not a linear layer")
        self._packed_head = PackedWeight(self.head.weight)
        self._packed.append(self._packed_head)
        self._kv_memory = kv_memory
        self._size()

    def weights_changed(self) -> None:
        self.store.clear()
        for weight in self._packed:
            weight.forget()

    def round_to(self, dtype: torch.dtype, keep: Callable[[str], bool]) -> None:
        super().round_to(dtype, keep)
        self.weights_changed()
        self._size()

    def passes(
        self,
        sequences: Sequence[TokenSequence],
        temperature: float,
        against: Against | None = None,
    ) -> Iterator[PassScores]:
        for indices, states, tokens in self._states(sequences):
            places, rows = states.places.unique(return_inverse=True)
            targets = [token for i in indices for token in sequences[i].targets]
            scores = score_tokens(
                self.head,
                states.hidden.index_select(0, places),
                rows,
                torch.tensor(targets, device=self.device),
                temperature,
            )
            divergence = None
            if against is not None:
                reference = against.distributions.at(indices)
                hidden = states.hidden.index_select(0, states.places)
                divergence = divergences(self.head, hidden, reference, temperature, against.top)
            yield PassScores(indices, scores, tokens, divergence)

    @torch.no_grad()
    def distributions(self, sequences: Sequence[TokenSequence]) -> _FromStates:
        """Hidden states are kept, of which logits are made when they are asked for."""
        found: dict[int, Tensor] = {}
        for indices, states, _ in self._states(sequences):
            lengths = [len(sequences[i].scored) for i in indices]
            hidden = states.hidden.index_select(0, states.places)
            found |= zip(indices, hidden.split(lengths), strict=True)
        return _FromStates(self, found)

    def _states(
        self, sequences: Sequence[TokenSequence]
    ) -> Iterator[tuple[list[int], _States, int]]:
        """Pass by pass: the sequences that end in it, their states, and tokens computed for it."""
        # The last scored token is predicted, never read, and so is what follows it.
        roots = prune(grow([s.tokens[: s.scored[-1]] for s in sequences]))
        starts = [s.scored[0] - 1 for s in sequences]
        blocks = plan(roots, self.tokens_per_pass, starts)
        computed = 0
        for tokens, found in self._run_blocks(blocks, [], sequences):
            computed += tokens
            if found is not None:
                yield *found, computed
                computed = 0

    def _run_blocks(
        self, blocks: Sequence[Block], above: Sequence[Earlier], sequences: Sequence[TokenSequence]
    ) -> Iterator[tuple[int, tuple[list[int], _States] | None]]:
        """Tokens of each pass, and what ends in it unless it is one that others only continue."""
        for block in blocks:
            layout, hidden, key_values = self.run(
                block.roots, [above] * len(block.roots), alone=bool(block.below)
            )
            if block.below:
                (node,) = block.roots
                yield layout.tokens.numel(), None
                leaves = _cut(key_values)
                below = [*above, Earlier(leaves, node.start, node.end)]
                yield from self._run_blocks(block.below, below, sequences)
                _backward_through(key_values, leaves)
                continue
            indices, places = _predictions(block, layout, sequences)
            states = _States(hidden, torch.tensor(places, device=self.device))
            yield layout.tokens.numel(), (indices, states)

    def run(
        self, roots: Sequence[Node], above: Sequence[Sequence[Earlier]], *, alone: bool = False
    ) -> tuple[Layout, Tensor, KeyValues]:
        """Compute subtrees, or ``alone`` their topmost nodes only, in one forward pass.

        Args:
            roots: of the subtrees.
            above: for each root what was computed earlier of its path.
            alone: see ``Layout``.

        Returns:
            Where the tokens lie, [N, hidden] states and the keys and values of all N tokens.
        """
        numbers: dict[int, int] = {}
        outside: list[KeyValues] = []
        reads: list[list[tuple[int, int, int]]] = []
        for stretches in above:
            reads.append([])
            for key_values, start, stop in stretches:
                if id(key_values) not in numbers:
                    numbers[id(key_values)] = len(outside)
                    outside.append(key_values)
                reads[-1].append((numbers[id(key_values)], start, stop))
        layout = Layout(roots, reads, alone, self.device)
        tree_pass = TreePass(layout, outside)
        hidden = self.forward(layout.tokens, layout.positions, tree_pass)
        return layout, hidden[0], tree_pass.recorded

    def logits(self, hidden: Tensor) -> Tensor:
        """[N, V] logits in fp32 after [N, hidden] states."""
        bias = self.head.bias
        if self.head.weight.dtype == torch.float32:
            return self._packed_head.multiply(hidden, bias)
        return logits_of(hidden, self.head.weight, bias)

    def decoder(
        self, prompts: Sequence[Sequence[int]], counts: Sequence[int], limits: SamplingLimits
    ) -> Decoder:
        return SharedDecoder(self, prompts, counts, limits)

    def forward(self, tokens: Tensor, positions: Tensor, forward_pass: ForwardPass) -> Tensor:
        """[B, S, hidden] states of [B, S] tokens at [B, S] positions."""
        with attention.running(forward_pass):
            hidden: Tensor = self._body(
                input_ids=tokens, position_ids=positions, use_cache=False
            ).last_hidden_state
        self.windowed |= forward_pass.windowed
        return hidden

    @torch.no_grad()
    def _size(self) -> None:
        """Turn the memory into tokens; the bytes of one are found by computing it."""
        self.example = self.run([Node((0,), 0, size=1)], [[]])[-1]
        if not self.example.keys:
            raise TypeError("its layers do not attend through transformers' AttentionInterface")
        tensors = *self.example.keys, *self.example.values
        self.kv_tokens = int(self._kv_memory / sum(t.numel() * t.element_size() for t in tensors))
        # Half of the memory for what is shared, so that rows always find some.
        self.store = PrefixStore(self.kv_tokens // 2)


class _States(NamedTuple):
    """[M, hidden] states of a pass, and [N] at which of them each scored token is predicted."""

    hidden: Tensor
    places: Tensor


class _FromStates:
    """Distributions as the hidden states [n, hidden] that they come from, by sequence."""

    def __init__(self, engine: SharedPrefixEngine, states: Mapping[int, Tensor]) -> None:
        self._engine = engine
        self._states = states

    def at(self, indices: Sequence[int]) -> TokenLogits:
        hidden = torch.cat([self._states[index] for index in indices])
        head = self._engine.head
        return lambda tokens: logits_of(hidden[tokens], head.weight, head.bias)


def _predictions(
    block: Block, layout: Layout, sequences: Sequence[TokenSequence]
) -> tuple[list[int], list[int]]:
    """The sequences that end in a block, and where each of their scored tokens is predicted."""
    indices: list[int] = []
    places: list[int] = []
    for root in block.roots:
        for node in root.walk():
            if not node.ends:
                continue
            path = [part for part in node.path() if part in layout.place]
            # What to add to a position in the sequence to find the token in the pass.
            starts = [part.start for part in path]
            shifts = [layout.place[part] - part.start for part in path]
            for index in node.ends:
                indices.append(index)
                positions = np.asarray(sequences[index].scored) - 1
                parts = np.searchsorted(starts, positions, side="right") - 1
                places += (positions + np.take(shifts, parts)).tolist()
    return indices, places


def _cut(prefix: KeyValues) -> KeyValues:
    """The prefix as leaves that collect the gradients of all that read it."""
    if not torch.is_grad_enabled():
        return prefix
    return KeyValues(
        [keys.detach().requires_grad_() for keys in prefix.keys],
        [values.detach().requires_grad_() for values in prefix.values],
    )


def _backward_through(prefix: KeyValues, leaves: KeyValues) -> None:
    """Carry the gradients that the readers left in the leaves on to the parameters, once.

    Readers are computed pass by pass, each with its own backward; what they share keeps its graph
    until all have read it. Its gradient is the sum of theirs.
    """
    if not torch.is_grad_enabled():
        return
    tensors, gradients = [], []
    for tensor, leaf in zip(
        [*prefix.keys, *prefix.values], [*leaves.keys, *leaves.values], strict=True
    ):
        if leaf.grad is not None and tensor.requires_grad:
            tensors.append(tensor)
            gradients.append(leaf.grad)
    if tensors:
        torch.autograd.backward(tensors, gradients)
