"""Which engine a model is trusted to."""

import logging
from collections.abc import Callable

import pytest
import torch
from prefix_batches import SERVED
from transformers import PreTrainedModel

from fastslow.engine.padded import PaddedEngine
from fastslow.engine.sampling import SamplingLimits
from fastslow.engine.select import choose_engine
from fastslow.engine.shared import SharedPrefixEngine
from fastslow.types import TokenSequence

Build = Callable[[str], PreTrainedModel]

LIMITS = SamplingLimits(max_tokens=5, stop_ids=frozenset({2}), temperature=1.0)


@pytest.mark.parametrize("name", SERVED)
def test_models_that_can_share_do(
    build: Build, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = choose_engine(build(name), 512, kv_memory=2**20)
    assert isinstance(engine, SharedPrefixEngine)
    assert not [r for r in caplog.records if r.name.startswith("fastslow")]
    token = sum(t.numel() * 4 for t in (*engine.example.keys, *engine.example.values))
    assert engine.kv_tokens == 2**20 // token


@pytest.mark.parametrize("name", ["gemma2_capped_head", "gpt_oss", "mask_window", "mamba"])
def test_models_that_cannot_share_are_served_plainly_and_with_a_warning(
    build: Build, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = build(name)
    with caplog.at_level(logging.WARNING, "fastslow.engine"):
        engine = choose_engine(model, 512)
    assert type(engine) is PaddedEngine
    assert "cannot share prefixes" in caplog.text
    assert type(model).__name__ in caplog.text
    assert_served_right(engine, build(name))


def test_a_model_that_refuses_our_call_is_served_plainly(
    build: Build, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("llama")

    def refuse() -> None:
        raise NotImplementedError("no decoder here")

    monkeypatch.setattr(model, "get_decoder", refuse)
    engine = choose_engine(model, 512)
    assert type(engine) is PaddedEngine
    assert "NotImplementedError: no decoder here" in caplog.text
    assert_served_right(engine, build("llama"))


@pytest.mark.parametrize("name", ["llama", "gemma2_capped_head"])
def test_weights_are_rounded_and_buffers_are_not(build: Build, name: str) -> None:
    """Rotary frequencies in bf16 would blur positions."""
    engine = choose_engine(build(name), 512)
    engine.round_to(torch.bfloat16, keep=lambda name: False)
    assert {p.dtype for p in engine.model.parameters()} == {torch.bfloat16}
    buffers = {n: b.dtype for n, b in engine.model.named_buffers() if b.is_floating_point()}
    assert any("inv_freq" in n for n in buffers)
    assert set(buffers.values()) == {torch.float32}


def test_weights_that_are_to_be_kept_are(build: Build) -> None:
    engine = PaddedEngine(build("llama"), 512)
    engine.round_to(torch.bfloat16, keep=lambda name: "norm" in name)
    for name, parameter in engine.model.named_parameters():
        assert parameter.dtype == (torch.float32 if "norm" in name else torch.bfloat16)


def assert_served_right(engine: PaddedEngine, untouched: PreTrainedModel) -> None:
    """Samples carry the log-probabilities of the model as it came, and scoring finds them again."""
    prompts = [[5, 6, 7], [5, 6, 8, 9]]
    sampled = engine.sample(prompts, [[1, 2], [3]], LIMITS, rows=2)
    pairs = [(p, c) for p, some in zip(prompts, sampled, strict=True) for c in some]
    scores = engine.score([TokenSequence.of(p, c.sampled) for p, c in pairs], 1.0)
    for (prompt, completion), score in zip(pairs, scores, strict=True):
        tokens = list(completion.sampled)
        with torch.no_grad():
            logits = untouched(torch.tensor([[*prompt, *tokens]]), use_cache=False).logits[0]
        expected = logits[len(prompt) - 1 : -1].log_softmax(-1)[range(len(tokens)), tokens]
        found = torch.tensor(completion.logprobs)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(score.logprobs, expected, rtol=0, atol=1e-4)
