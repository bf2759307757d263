"""Attention by blocks: both paths against an explicit softmax, and blocks against the whole."""

import itertools
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastslow.engine import kernels
from fastslow.engine.kernels import Scoring, Visible, attend, attend_backward

BLOCKS, HEADS, QUERIES, KEYS, SIZE = 2, 3, 7, 7, 4
SCALE = 0.4


class Inputs(NamedTuple):
    query: Tensor
    key: Tensor
    value: Tensor


def inputs(queries: int = QUERIES, keys: int = KEYS, value_size: int = SIZE) -> Inputs:
    generator = torch.Generator().manual_seed(3)
    shapes = (queries, SIZE), (keys, SIZE), (keys, value_size)
    return Inputs(*(2 * torch.randn(BLOCKS, HEADS, *s, generator=generator) for s in shapes))


def by_the_book(
    given: Inputs, visible: Tensor | None, scoring: Scoring, causal: bool
) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp of an explicit softmax, in fp64 and with torch's gradient."""
    query, key, value = (tensor.double() for tensor in given)
    scores = query @ key.transpose(-1, -2) * scoring.scale
    if scoring.softcap is not None:
        scores = scoring.softcap * (scores / scoring.softcap).tanh()
    if causal:
        visible = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if visible is None:
        visible = torch.tensor(True)
    weights = scores.exp() * visible
    total = weights.sum(dim=-1)
    shares = weights / total.masked_fill(total == 0, 1)[..., None]
    return shares @ value, total.log()


def masks() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)
    some = torch.rand(BLOCKS, 1, QUERIES, KEYS, generator=generator) < 0.4
    blind = some.clone()
    blind[:, :, ::3] = False  # these queries see no key
    return {
        "some": some | torch.eye(QUERIES, KEYS, dtype=torch.bool),
        "blind": blind,
        "nothing": torch.zeros(BLOCKS, 1, QUERIES, KEYS, dtype=torch.bool),
        "rows": some[:, :, :1] | (torch.arange(KEYS) == 0),
        "unbatched": blind[0, 0],
    }


@pytest.fixture(params=["fused", "plain", "plain in parts"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way to compute a block; the plain one also a few queries at a time."""
    if request.param != "fused":
        monkeypatch.setattr(kernels, "_is_fused", lambda *_: False)
    if request.param == "plain in parts":
        monkeypatch.setattr(kernels, "_MOST_SCORES", 2 * BLOCKS * HEADS * KEYS)
    return str(request.param)


CASES = [
    *((name, softcap, False) for name in (None, *masks()) for softcap in (None, 1.5)),
    *((None, softcap, True) for softcap in (None, 1.5)),
]


@pytest.mark.parametrize(("mask", "softcap", "causal"), CASES)
def test_a_block_equals_an_explicit_softmax_with_its_gradient(
    path: str, mask: str | None, softcap: float | None, causal: bool
) -> None:
    visible = None if mask is None else masks()[mask]
    scoring = Scoring(SCALE, softcap)
    leaves = Inputs(*(tensor.requires_grad_() for tensor in inputs()))
    expected, normaliser = by_the_book(leaves, visible, scoring, causal)
    gradient = torch.randn(expected.shape, generator=torch.Generator().manual_seed(5))
    expected.backward(gradient.double())
    plain = Inputs(*(tensor.detach() for tensor in leaves))
    reads = None if visible is None else Visible(visible)
    found, found_normaliser = attend(*plain, reads, scoring, causal)
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found_normaliser, normaliser.float(), rtol=1e-5, atol=1e-6)
    gradients = attend_backward(gradient, *plain, found, found_normaliser, reads, scoring, causal)
    for name, ours, leaf in zip(Inputs._fields, gradients, leaves, strict=True):
        torch.testing.assert_close(ours, leaf.grad, rtol=1e-4, atol=1e-5, msg=name)


def test_a_query_that_sees_no_key_gives_nothing_and_gets_nothing(path: str) -> None:
    given, visible = inputs(), Visible(masks()["blind"])
    output, normaliser = attend(*given, visible, Scoring(SCALE))
    assert bool((output[:, :, ::3] == 0).all())
    assert bool((normaliser[:, :, ::3] == -torch.inf).all())
    gradient = torch.ones_like(output)
    to_query, *_ = attend_backward(gradient, *given, output, normaliser, visible, Scoring(SCALE))
    assert bool((to_query[:, :, ::3] == 0).all())
    assert bool(to_query.isfinite().all())


def test_values_may_have_a_size_of_their_own(path: str) -> None:
    given = inputs(keys=5, value_size=3)
    output, normaliser = attend(*given, None, Scoring(SCALE))
    expected, expected_normaliser = by_the_book(given, None, Scoring(SCALE), False)
    torch.testing.assert_close(output, expected.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(normaliser, expected_normaliser.float(), rtol=1e-5, atol=1e-6)


def test_bfloat16_blocks_have_fp32_normalisers(path: str) -> None:
    given = Inputs(*(tensor.bfloat16() for tensor in inputs()))
    output, normaliser = attend(*given, None, Scoring(SCALE), causal=True)
    expected, expected_normaliser = by_the_book(given, None, Scoring(SCALE), True)
    assert (output.dtype, normaliser.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(output.float(), expected.float(), rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(normaliser, expected_normaliser.float(), rtol=1e-2, atol=1e-2)
    gradients = attend_backward(
        torch.ones_like(output), *given, output, normaliser, None, Scoring(SCALE), causal=True
    )
    assert {tensor.dtype for tensor in gradients} == {torch.bfloat16}


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=4),
    st.sampled_from([None, 1.5]),
    st.floats(0, 1),
)
def test_blocks_merged_by_log_sum_exp_equal_one_attention_over_all_keys(
    lengths: list[int], softcap: float | None, share: float
) -> None:
    given, scoring = inputs(keys=sum(lengths)), Scoring(SCALE, softcap)
    generator = torch.Generator().manual_seed(11)
    keys = torch.rand(BLOCKS, 1, QUERIES, sum(lengths), generator=generator) < share
    keys[..., 0] = True  # of the first block every query reads something
    whole, whole_normaliser = attend(*given, Visible(keys), scoring)
    gradient = torch.randn(whole.shape, generator=generator)
    expected = attend_backward(gradient, *given, whole, whole_normaliser, Visible(keys), scoring)

    ends = list(itertools.accumulate(lengths))
    parts = [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]
    blocks = [
        (given.query, given.key[:, :, part], given.value[:, :, part], Visible(keys[..., part]))
        for part in parts
    ]
    merged = torch.zeros_like(whole)
    normaliser = torch.full_like(whole_normaliser, -torch.inf)
    for number, block in enumerate(blocks):
        output, part_normaliser = attend(*block, scoring)
        total = part_normaliser if not number else torch.logaddexp(normaliser, part_normaliser)
        kept = (normaliser - total).exp() if number else torch.zeros_like(total)
        merged = merged * kept[..., None] + output * (part_normaliser - total).exp()[..., None]
        normaliser = total
    torch.testing.assert_close(merged, whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(normaliser, whole_normaliser, rtol=1e-4, atol=1e-5)

    found = [
        attend_backward(gradient, query, key, value, merged, normaliser, visible, scoring)
        for query, key, value, visible in blocks
    ]
    to_query = sum(block[0] for block in found)
    to_key, to_value = (torch.cat([block[n] for block in found], dim=2) for n in (1, 2))
    for ours, reference in zip((to_query, to_key, to_value), expected, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-3, atol=1e-5)


def test_the_plain_path_holds_few_scores_at_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_MOST_SCORES", 50)
    largest = 0
    scores_of = kernels._scores

    def counted(*arguments: object) -> Tensor:
        nonlocal largest
        scores = scores_of(*arguments)  # type: ignore[arg-type]
        largest = max(largest, scores.numel())
        return scores

    monkeypatch.setattr(kernels, "_scores", counted)
    given, scoring = inputs(queries=40), Scoring(SCALE, 1.5)
    output, normaliser = attend(*given, None, scoring)
    attend_backward(output, *given, output, normaliser, None, scoring)
    assert 0 < largest <= 50


def test_the_addend_of_a_mask_is_made_once_for_each_type() -> None:
    visible = Visible(torch.tensor([[True, False]]))
    assert visible.addend(torch.float32).tolist() == [[0.0, -torch.inf]]
    assert visible.addend(torch.float32) is visible.addend(torch.float32)
    assert visible.addend(torch.bfloat16).dtype == torch.bfloat16
    assert visible.leaves_none_out
    assert not Visible(torch.tensor([[True, False], [False, False]])).leaves_none_out
