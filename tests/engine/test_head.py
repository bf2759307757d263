"""Scores in chunks, from shared distributions, against the plain reference."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prefix_batches import small_parts
from torch import Tensor, nn

from fastslow.engine import head as head_module
from fastslow.engine.head import TokenScores, logits_of, score_logits, score_tokens

VOCABULARY, HIDDEN = 23, 8

DRAWN = st.lists(st.integers(0, 6), min_size=1, max_size=20)
"""Which of seven distributions each token was drawn from, in any order."""


def make_head(bias: bool) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Linear(HIDDEN, VOCABULARY, bias=bias)


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def targets_of(count: int) -> Tensor:
    """Some of them alike."""
    return (torch.arange(count) * 7 % 5).long()


def scored_plainly(
    head: nn.Linear, hidden: Tensor, rows: Tensor, targets: Tensor, temperature: float
) -> TokenScores:
    return score_logits(head(hidden)[rows], targets, temperature)


@settings(max_examples=60)
@given(DRAWN, st.sampled_from([1, 3, 512]), st.sampled_from([1.0, 0.6]), st.booleans())
@example([3, 3, 3, 0], 2, 0.6, True)
@example([6], 2, 1.0, False)  # chunks whose distributions no token was drawn from
def test_scores_and_gradients_are_those_of_the_plain_reference(
    drawn: list[int], chunk: int, temperature: float, bias: bool
) -> None:
    rows, targets, weights = torch.tensor(drawn), targets_of(len(drawn)), random(len(drawn), seed=2)
    found = []
    for score in (score_tokens, scored_plainly):
        head, hidden = make_head(bias), random(7, HIDDEN, seed=1).requires_grad_()
        with small_parts(128, chunk=chunk):
            scores = score(head, hidden, rows, targets, temperature)
            (weights * scores.logprobs).sum().backward()
        assert not scores.entropies.requires_grad
        gradients = [hidden.grad, *(p.grad for p in head.parameters())]
        found.append([scores.logprobs, scores.entropies, *gradients])
    for ours, reference in zip(*found, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk", [3, 512])
@pytest.mark.parametrize("trained", ["hidden", "head"])
def test_a_frozen_side_gets_no_gradient(
    trained: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_module, "CHUNK", chunk)
    head = make_head(bias=True).requires_grad_(trained == "head")
    hidden = random(7, HIDDEN, seed=1).requires_grad_(trained == "hidden")
    scores = score_tokens(head, hidden, torch.arange(7), targets_of(7), 1.0)
    scores.logprobs.sum().backward()
    gradients = hidden.grad, head.weight.grad, head.bias.grad
    assert [g is None for g in gradients] == [trained == "head", *[trained == "hidden"] * 2]


@pytest.mark.parametrize("chunk", [3, 512])
def test_the_gradient_can_be_asked_for_twice(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the forward pass kept is used up by the first backward pass."""
    monkeypatch.setattr(head_module, "CHUNK", chunk)
    hidden = random(7, HIDDEN, seed=1).requires_grad_()
    scores = score_tokens(make_head(False), hidden, torch.arange(7), targets_of(7), 1.0)
    first, second = (
        torch.autograd.grad(scores.logprobs.sum(), hidden, retain_graph=True)[0] for _ in range(2)
    )
    torch.testing.assert_close(first, second)


def test_bfloat16_weights_give_fp32_logits() -> None:
    head, hidden = make_head(bias=True).bfloat16(), random(5, HIDDEN, seed=1).bfloat16()
    logits = logits_of(hidden, head.weight, head.bias)
    assert logits.dtype == torch.float32
    exact = hidden.double() @ head.weight.double().t() + head.bias.double()
    torch.testing.assert_close(logits, exact.float(), rtol=1e-5, atol=1e-6)
    assert not torch.equal(logits, logits.bfloat16().float()), "not rounded on the way"


@pytest.mark.parametrize("chunk", [2, 512])
def test_bfloat16_scores_are_exact_and_gradients_rounded_once(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_module, "CHUNK", chunk)
    rounded, states = make_head(bias=True).bfloat16(), random(7, HIDDEN, seed=1).bfloat16()
    exact = make_head(bias=True)
    with torch.no_grad():
        for parameter, source in zip(exact.parameters(), rounded.parameters(), strict=True):
            parameter.copy_(source)
    hidden, exact_hidden = states.requires_grad_(), states.detach().float().requires_grad_()
    rows, targets, weights = torch.arange(7), targets_of(7), random(7, seed=2)
    ours = score_tokens(rounded, hidden, rows, targets, 0.7)
    plain = scored_plainly(exact, exact_hidden, rows, targets, 0.7)
    for scores in (ours, plain):
        (weights * scores.logprobs).sum().backward()
    assert ours.logprobs.dtype == ours.entropies.dtype == torch.float32
    torch.testing.assert_close(ours.logprobs, plain.logprobs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.entropies, plain.entropies, rtol=1e-5, atol=1e-6)
    for found, expected in [
        (hidden.grad, exact_hidden.grad),
        (rounded.weight.grad, exact.weight.grad),
        (rounded.bias.grad, exact.bias.grad),
    ]:
        assert found is not None
        assert expected is not None
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), expected, rtol=2**-8, atol=1e-6)


def test_an_entropy_is_that_of_the_distribution_and_not_of_the_token() -> None:
    head, hidden = make_head(bias=False), random(2, HIDDEN, seed=1)
    scores = score_tokens(head, hidden, torch.tensor([0, 1, 0]), torch.tensor([1, 2, 3]), 0.8)
    expected = torch.distributions.Categorical(logits=head(hidden).detach() / 0.8).entropy()
    torch.testing.assert_close(scores.entropies, expected[[0, 1, 0]], rtol=1e-5, atol=1e-6)
