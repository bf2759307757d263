"""Batches of every shape of prefix tree, and what an engine makes of them beside the reference."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from fastslow.engine import decoding, head, layout, passes
from fastslow.engine.base import Engine
from fastslow.types import TokenSequence

VOCABULARY = 61
SERVED = ("llama", "qwen2", "qwen3", "mistral", "gemma2", "gpt2")

Batch = list[TokenSequence]
Computed = tuple[Tensor, Tensor, dict[str, Tensor]]
"""Log-probabilities and entropies of all completion tokens, and gradients by parameter."""


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Rollouts under prompts that form random trees, one to four levels deep.

    With few different tokens completions begin alike, are equal, begin other prompts, and prompts
    begin prompts; with many they hardly ever do. Of some sequences any tokens are scored, as in
    rollouts of several turns.
    """
    token = st.integers(0, draw(st.sampled_from([1, 3, VOCABULARY - 1])))
    level = [draw(st.lists(token, min_size=1, max_size=9)) for _ in range(draw(st.integers(1, 2)))]
    prompts = list(level)
    for _ in range(draw(st.integers(0, 3))):
        above = draw(st.lists(st.sampled_from(level), min_size=1, max_size=4))
        level = [[*prompt, *draw(st.lists(token, max_size=6))] for prompt in above]
        prompts += level
    sequences: Batch = []
    for prompt in draw(st.lists(st.sampled_from(prompts), min_size=1, max_size=6)):
        completions = draw(
            st.lists(st.lists(token, min_size=1, max_size=7), min_size=1, max_size=4)
        )
        sequences += [TokenSequence.of(prompt, completion) for completion in completions]
    return [draw(turns(sequence)) for sequence in sequences]


@st.composite
def turns(draw: st.DrawFn, sequence: TokenSequence) -> TokenSequence:
    """The sequence as it is, or with any of its tokens scored but the first."""
    if len(sequence.tokens) < 2 or draw(st.booleans()):
        return sequence
    positions = st.integers(1, len(sequence.tokens) - 1)
    return TokenSequence(sequence.tokens, sorted(draw(st.sets(positions, min_size=1))))


@contextmanager
def small_parts(cluster: int, worth: int = 0, chunk: int = 512) -> Iterator[None]:
    """Cut even tiny trees into trunks, clusters and chunks of the head.

    Args:
        cluster: tokens of a cluster.
        worth: tokens that a trunk must save, in a pass and in decoding.
        chunk: rows whose logits exist at one time.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "CLUSTER", cluster)
        patch.setattr(passes, "CLUSTER", cluster)
        patch.setattr(passes, "_WORTH", worth)
        patch.setattr(decoding, "_WORTH", worth)
        patch.setattr(decoding, "_SHORTEST", 1)
        patch.setattr(head, "CHUNK", chunk)
        yield


def weights_of(sequences: Batch) -> list[Tensor]:
    """A weight per token, unlike for every token, so that gradients cannot be mixed up."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(len(s.scored), generator=generator) for s in sequences]


def computed_by(engine: Engine, sequences: Batch, temperature: float) -> Computed:
    """What an engine finds; the gradients are those of a weighted sum of log-probabilities."""
    weights = weights_of(sequences)
    logprobs: dict[int, Tensor] = {}
    entropies: dict[int, Tensor] = {}
    engine.model.zero_grad(set_to_none=True)
    for indices, scores, *_ in engine.passes(sequences, temperature):
        (torch.cat([weights[i] for i in indices]) * scores.logprobs).sum().backward()
        lengths = [len(sequences[i].scored) for i in indices]
        logprobs.update(zip(indices, scores.logprobs.detach().split(lengths), strict=True))
        entropies.update(zip(indices, scores.entropies.split(lengths), strict=True))
    everything = range(len(sequences))
    return (
        torch.cat([logprobs[i] for i in everything]),
        torch.cat([entropies[i] for i in everything]),
        gradients(engine.model),
    )


def computed_plainly(model: PreTrainedModel, sequences: Batch, temperature: float) -> Computed:
    """The same, one sequence at a time and by the book."""
    model.zero_grad(set_to_none=True)
    logprobs, entropies = [], []
    for sequence, weights in zip(sequences, weights_of(sequences), strict=True):
        logits = model(torch.tensor([list(sequence.tokens)]), use_cache=False).logits[0]
        predictions = logits[[position - 1 for position in sequence.scored]] / temperature
        chosen = predictions.log_softmax(-1)[range(len(predictions)), sequence.targets]
        (weights * chosen).sum().backward()
        logprobs.append(chosen.detach())
        entropies.append(torch.distributions.Categorical(logits=predictions.detach()).entropy())
    return torch.cat(logprobs), torch.cat(entropies), gradients(model)


def gradients(model: PreTrainedModel) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same(found: Computed, expected: Computed, order: float = math.inf) -> None:
    """Equal to 1e-4 of each value, and of the norm of each parameter's gradient."""
    for tensor, reference in zip(found[:2], expected[:2], strict=True):
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, reference, rtol=1e-4, atol=1e-5)
    assert found[2].keys() == expected[2].keys()
    sizes = {name: norm(reference, order) for name, reference in expected[2].items()}
    for name, reference in expected[2].items():
        error = norm(found[2][name] - reference, order)
        # Some gradients are zero but for rounding: a key's bias moves all scores alike.
        allowed = 1e-4 * max(sizes[name], 1e-2 * max(sizes.values()))
        assert error <= allowed, f"{name}: {error} > {allowed}"


def norm(tensor: Tensor, order: float) -> float:
    return float(torch.linalg.vector_norm(tensor, order))
