"""KL over the vocabulary: against torch's own, and through both engines against a plain loop."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prefix_batches import Batch, batches, gradients, small_parts, weights_of
from torch import Tensor, nn
from torch.distributions import Categorical, kl_divergence
from transformers import PreTrainedModel

from fastslow.engine import divergence
from fastslow.engine.base import Against, Engine
from fastslow.engine.divergence import divergence_of_logits, divergences
from fastslow.engine.padded import PaddedEngine
from fastslow.engine.shared import SharedPrefixEngine
from fastslow.types import TokenSequence

Build = Callable[[str], PreTrainedModel]
EngineType = Callable[[PreTrainedModel, int], Engine]

V = 23


def logits(seed: int, rows: int = 7, spread: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(rows, V, generator=generator)


def lumped(p: Tensor, q: Tensor, top: int) -> Tensor:
    """KL of distributions [V] in which all but p's likeliest tokens are one event."""
    kept = p.topk(top).indices
    p, q = (torch.cat([r[kept], 1 - r[kept].sum(0, keepdim=True)]) for r in (p, q))
    return kl_divergence(Categorical(p), Categorical(q))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_it_is_the_divergence_of_the_distributions(temperature: float) -> None:
    p, q = logits(0), logits(1)
    expected = kl_divergence(
        Categorical(logits=p / temperature), Categorical(logits=q / temperature)
    )
    torch.testing.assert_close(divergence_of_logits(p, q, temperature), expected)
    assert not torch.allclose(expected, divergence_of_logits(q, p, temperature))
    torch.testing.assert_close(divergence_of_logits(p, p, temperature), torch.zeros(7))


@pytest.mark.parametrize("top", [1, 2, 5])
def test_tokens_beyond_the_likeliest_count_as_one(top: int) -> None:
    p, q = logits(0), logits(1)
    expected = [
        lumped(a, b, top) for a, b in zip(*(x.double().softmax(-1) for x in (p, q)), strict=True)
    ]
    torch.testing.assert_close(
        divergence_of_logits(p, q, 1.0, top), torch.stack(expected).float(), rtol=1e-4, atol=1e-5
    )


def test_the_more_tokens_are_told_apart_the_closer_to_the_whole() -> None:
    p, q = logits(2), logits(3)
    found = [divergence_of_logits(p, q, 1.0, top) for top in range(1, V)]
    for coarse, fine in pairwise(found):
        assert (coarse <= fine + 1e-5).all()
    torch.testing.assert_close(found[-1], divergence_of_logits(p, q, 1.0))
    assert (found[0] < found[-1] - 1e-3).all()


def test_nothing_overflows_where_the_rest_is_unlikely() -> None:
    p, q = torch.zeros(1, V), torch.zeros(1, V)
    p[0, 0], q[0, 1] = 200.0, 200.0
    found = divergence_of_logits(p, q, 1.0, 3)
    torch.testing.assert_close(found, torch.full((1,), 200.0))


@pytest.mark.parametrize("top", [None, 3])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("chunk", [2, 512])
def test_from_hidden_states_with_gradient(
    top: int | None, bias: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(divergence, "CHUNK", chunk)
    torch.manual_seed(0)
    head = nn.Linear(5, V, bias=bias)
    hidden = (2 * torch.randn(7, 5)).requires_grad_()
    q, weights = logits(1), torch.randn(7)
    expected = divergence_of_logits(head(hidden), q, 0.7, top)
    (weights * expected).sum().backward()
    wanted = [hidden.grad, *(p.grad for p in head.parameters())]
    hidden.grad = None
    head.zero_grad()
    found = divergences(head, hidden, lambda tokens: q[tokens], 0.7, top)
    (weights * found).sum().backward()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for one, other in zip([hidden.grad, *(p.grad for p in head.parameters())], wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def taught(sequences: Batch) -> Batch:
    """The same scored tokens after other prompts, unlike for every sequence."""
    return [
        TokenSequence([9 + n % 2, 5, *s.tokens], [position + 2 for position in s.scored])
        for n, s in enumerate(sequences)
    ]


def by_the_book(
    model: PreTrainedModel, reference: PreTrainedModel, sequences: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """Divergences of all tokens from what ``reference`` says after the teachers' prompts, and the
    gradient of their weighted sum, one sequence at a time."""
    model.zero_grad(set_to_none=True)
    found = []
    for own, other, weights in zip(
        sequences, taught(sequences), weights_of(sequences), strict=True
    ):
        p, q = (
            m(torch.tensor([list(s.tokens)]), use_cache=False).logits[0][
                [position - 1 for position in s.scored]
            ]
            for m, s in ((model, own), (reference, other))
        )
        values = kl_divergence(Categorical(logits=p / 0.7), Categorical(logits=q.detach() / 0.7))
        (weights * values).sum().backward()
        found.append(values.detach())
    return torch.cat(found), gradients(model)


def by_engine(
    engine: Engine, reference: Engine, sequences: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    engine.model.zero_grad(set_to_none=True)
    weights, found = weights_of(sequences), {}
    against = Against(reference.distributions(taught(sequences)))
    for indices, _, _, values in engine.passes(sequences, 0.7, against):
        assert values is not None
        (torch.cat([weights[i] for i in indices]) * values).sum().backward()
        lengths = [len(sequences[i].scored) for i in indices]
        found.update(zip(indices, values.detach().split(lengths), strict=True))
    return torch.cat([found[i] for i in range(len(sequences))]), gradients(engine.model)


@pytest.mark.parametrize("engine", [PaddedEngine, SharedPrefixEngine])
@settings(max_examples=15)
@given(sequences=batches(), budget=st.sampled_from([1, 12, 4096]))
def test_engines_against_a_plain_loop(
    build: Build, engine: EngineType, sequences: Batch, budget: int
) -> None:
    base = build("llama")
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.mul_(0.8)
    expected = by_the_book(build("llama"), base, sequences)
    with small_parts(4, chunk=3):
        found = by_engine(engine(build("llama"), budget), engine(base, budget), sequences)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-3, atol=1e-5)
    largest = max(float(g.norm()) for g in expected[1].values())
    for name, gradient in expected[1].items():
        assert (found[1][name] - gradient).norm() <= 1e-4 * max(gradient.norm(), 1e-2 * largest)


@pytest.mark.parametrize("engine", [PaddedEngine, SharedPrefixEngine])
def test_a_policy_may_teach_itself_and_the_teacher_gets_no_gradient(
    build: Build, engine: EngineType
) -> None:
    sequences = [TokenSequence.of([1, 2, 3 + n % 2], [4, 5 + n, 6]) for n in range(4)]
    expected = by_the_book(build("qwen2"), build("qwen2"), sequences)
    itself = engine(build("qwen2"), 4096)
    found = by_engine(itself, itself, sequences)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-3, atol=1e-5)
    for name, gradient in expected[1].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("engine", [PaddedEngine, SharedPrefixEngine])
def test_compared_sequence_by_sequence(build: Build, engine: EngineType) -> None:
    """Own and reference log-probabilities and divergences, in the batch's order."""
    sequences = [TokenSequence.of([1, 2], [5] * n + [7]) for n in (4, 0, 2)]
    own, base = engine(build("llama"), 8), engine(build("qwen2"), 8)
    compared = own.compare(sequences, base.distributions(sequences), 0.7)
    for (scores, reference, values), mine, theirs, sequence in zip(
        compared, own.score(sequences, 0.7), base.score(sequences, 0.7), sequences, strict=True
    ):
        assert len(values) == len(sequence.scored)
        torch.testing.assert_close(scores.logprobs, mine.logprobs)
        torch.testing.assert_close(scores.entropies, mine.entropies)
        torch.testing.assert_close(reference, theirs.logprobs, rtol=1e-4, atol=1e-5)
        assert (values > 0).all()
