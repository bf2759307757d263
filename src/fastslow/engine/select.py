"""Choose the engine that a model can be trusted to."""

from __future__ import annotations

import logging

from transformers import PreTrainedModel

from fastslow.engine.base import Engine, TokenSequence
from fastslow.engine.padded import PaddedEngine
from fastslow.engine.shared import GIBIBYTE, SharedPrefixEngine

log = logging.getLogger("fastslow.engine")

TOLERANCE = 1e-3
"""Largest difference in log-probability, in nats, that rounding in fp32 explains."""


def choose_engine(
    model: PreTrainedModel, tokens_per_pass: int, kv_memory: float = 4 * GIBIBYTE
) -> Engine:
    """The shared-prefix engine if it agrees with the plain one on this model, else the plain one.

    Agreement is tried, not looked up by architecture: both engines score the same few sequences
    with shared prefixes. The tolerance is that of fp32, so a model that is to compute in less is
    chosen for before its weights are rounded. Models with recurrent state, attention sinks or a
    scaled head differ or do not run at all, and are served by the padded engine, with a warning.
    """
    own_attention = model.config._attn_implementation
    sequences = _probe(model.config.get_text_config().vocab_size)
    expected = PaddedEngine(model, tokens_per_pass).score(sequences, temperature=1.0)
    try:
        shared = SharedPrefixEngine(model, tokens_per_pass, kv_memory)
        found = shared.score(sequences, temperature=1.0)
        difference = max(
            float((e.logprobs - f.logprobs).abs().max())
            for e, f in zip(expected, found, strict=True)
        )
        reason = f"its log-probabilities differ by {difference:.2g} nats"
        agrees = difference <= TOLERANCE
        if agrees and _has_window(model) and not shared.windowed:
            # Sequences longer than the window, which the probe has none of, would come out wrong.
            reason, agrees = "it applies its attention window by a mask of its own", False
    except Exception as error:  # whatever a foreign architecture raises means that it cannot serve
        reason, agrees = f"it fails with {type(error).__name__}: {error}", False
    if agrees:
        return shared
    log.warning(
        "%s cannot share prefixes (%s): falling back to padded batches, which are slower",
        type(model).__name__,
        reason,
    )
    model.set_attn_implementation(own_attention)
    return PaddedEngine(model, tokens_per_pass)


def _has_window(model: PreTrainedModel) -> bool:
    config = model.config.get_text_config()
    return any(getattr(config, key, None) for key in ("sliding_window", "attention_chunk_size"))


def _probe(vocabulary: int) -> list[TokenSequence]:
    """Sequences with two shared prefixes of different lengths and unequal completions."""
    first = [(7 * i + 3) % vocabulary for i in range(24)]
    second = [(11 * i + 5) % vocabulary for i in range(17)]
    return [
        TokenSequence(
            [*prefix, *[(13 * i + j) % vocabulary for i in range(1, 3 + j)]],
            [(5 * i + j) % vocabulary for i in range(1, 6 + j)],
        )
        for prefix in (first, second)
        for j in range(3)
    ]
