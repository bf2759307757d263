"""Which engine a model is trusted to."""

import logging
from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from fastslow.engine.base import TokenSequence
from fastslow.engine.padded import PaddedEngine
from fastslow.engine.sampling import SamplingLimits
from fastslow.engine.select import choose_engine
from fastslow.engine.shared import SharedPrefixEngine

Build = Callable[[str], PreTrainedModel]

LIMITS = SamplingLimits(max_tokens=5, stop_ids=frozenset({2}), temperature=1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["llama", "qwen3", "mistral", "gpt2"])
def test_models_that_can_share_do(
    build: Build, name: str, dtype: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    engine = choose_engine(build(name), 512, dtype)
    assert isinstance(engine, SharedPrefixEngine)
    with engine.precision():
        assert torch.is_autocast_enabled("cpu") == (dtype == torch.bfloat16)
    assert not [r for r in caplog.records if r.name.startswith("fastslow")]


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


def assert_served_right(engine: PaddedEngine, untouched: PreTrainedModel) -> None:
    """Samples carry the log-probabilities of the model as it came, and scoring finds them again."""
    prompts = [[5, 6, 7], [5, 6, 8, 9]]
    sampled = engine.sample(prompts, [[1, 2], [3]], LIMITS, rows=2)
    pairs = [(p, c) for p, some in zip(prompts, sampled, strict=True) for c in some]
    scores = engine.score([TokenSequence(p, c.token_ids) for p, c in pairs], 1.0)
    for (prompt, completion), score in zip(pairs, scores, strict=True):
        tokens = list(completion.token_ids)
        with torch.no_grad():
            logits = untouched(torch.tensor([[*prompt, *tokens]]), use_cache=False).logits[0]
        expected = logits[len(prompt) - 1 : -1].log_softmax(-1)[range(len(tokens)), tokens]
        found = torch.tensor(completion.logprobs)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(score.logprobs, expected, rtol=0, atol=1e-4)
