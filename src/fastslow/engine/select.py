"""Choose the engine that a model can be trusted to."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fastslow.engine.base import Engine
from fastslow.engine.linear import restore
from fastslow.engine.padded import PaddedEngine
from fastslow.engine.sampling import SamplingLimits
from fastslow.engine.shared import GIBIBYTE, SharedPrefixEngine
from fastslow.errors import InputError
from fastslow.types import TokenSequence

log = logging.getLogger("fastslow.engine")

TOLERANCE = 1e-3
"""Largest difference in log-probability, in nats, that rounding in fp32 explains."""

_LIMITS = SamplingLimits(max_tokens=4, stop_ids=frozenset(), temperature=1.0)
"""Tokens sampled of each prompt of the probe: enough for rows to fork and to read what they
sampled."""


def choose_engine(
    model: PreTrainedModel, tokens_per_pass: int, kv_memory: float = 4 * GIBIBYTE
) -> Engine:
    """The shared-prefix engine if it agrees with the plain one on this model, else the plain one.

    Agreement is tried, not looked up by architecture: both engines score the same few sequences
    with shared prefixes, and what the shared engine samples must have the log-probabilities that
    it scores. The tolerance is that of fp32, so a model that is to compute in less is chosen for
    before its weights are rounded. Models with recurrent state, attention sinks or a scaled head
    differ or do not run at all. The padded engine serves them, with a warning, and gets the model
    as it came.

    Raises:
        InputError: the model reads padding or later tokens, so no engine can score it.
    """
    own_attention = model.config._attn_implementation
    _keep_weights_still(model)
    sequences = _probe(model.config.get_text_config().vocab_size)
    expected = _plain_scores(model, tokens_per_pass, sequences)
    try:
        shared = SharedPrefixEngine(model, tokens_per_pass, kv_memory)
        reason = _disagreement(shared, sequences, expected)
    except Exception as error:  # whatever a foreign architecture raises means that it cannot serve
        reason = f"it fails with {type(error).__name__}: {error}"
    if reason is None:
        shared.weights_changed()  # the prefixes of the probe
        return shared
    log.warning(
        "%s cannot share prefixes (%s): falling back to padded batches, which are slower",
        type(model).__name__,
        reason,
    )
    model.set_attn_implementation(own_attention)
    restore(model)
    return PaddedEngine(model, tokens_per_pass)


def _keep_weights_still(model: PreTrainedModel) -> None:
    """RWKV divides some weights in place when it first runs, and again when it is loaded from what
    was saved then. Without that its outputs are the same: it is meant for fp16."""
    if getattr(model.config, "rescale_every", 0):
        model.config.rescale_every = 0


def _plain_scores(
    model: PreTrainedModel, tokens_per_pass: int, sequences: Sequence[TokenSequence]
) -> list[Tensor]:
    """Log-probabilities of each sequence by itself. Neither padding nor what follows a token may
    change them. Raises: InputError."""
    alone = _logprobs(PaddedEngine(model, 1), sequences)
    padded = _logprobs(PaddedEngine(model, tokens_per_pass), sequences)
    cut = [
        TokenSequence(sequence.tokens[: sequence.scored[0] + 1], sequence.scored[:1])
        for sequence in sequences
    ]
    first = _logprobs(PaddedEngine(model, 1), cut)
    difference = max(
        _largest_difference(padded, alone),
        _largest_difference(first, [logprobs[:1] for logprobs in alone]),
    )
    if difference > TOLERANCE:
        raise InputError(
            f"model: {type(model).__name__} is no causal language model: log-probabilities of a "
            f"text change by {difference:.2g} nats with the padding or the tokens behind it. Use a "
            "model that reads from left to right"
        )
    return alone


def _disagreement(
    shared: SharedPrefixEngine, sequences: Sequence[TokenSequence], expected: Sequence[Tensor]
) -> str | None:
    """Why the engine cannot be trusted with its model, if it cannot."""
    difference = _largest_difference(_logprobs(shared, sequences), expected)
    if not difference <= TOLERANCE:  # nor is NaN agreement
        return f"its log-probabilities differ by {difference:.2g} nats"
    if _has_window(shared.model) and not shared.windowed:
        # Sequences longer than the window, which the probe has none of, would come out wrong.
        return "it applies its attention window by a mask of its own"
    prompts = [sequence.tokens[: sequence.scored[0]] for sequence in sequences]
    seeds = [(2 * number, 2 * number + 1) for number in range(len(prompts))]
    sampled = [
        (TokenSequence.of(prompt, tokens.sampled), tokens.logprobs)
        for prompt, some in zip(
            prompts, shared.sample(prompts, seeds, _LIMITS, rows=len(prompts)), strict=True
        )
        for tokens in some
    ]
    rescored = _logprobs(shared, [sequence for sequence, _ in sampled])
    at_sampling = [score.new_tensor(own) for score, (_, own) in zip(rescored, sampled, strict=True)]
    difference = _largest_difference(rescored, at_sampling)
    if not difference <= TOLERANCE:
        return f"what it samples has other log-probabilities, by {difference:.2g} nats"
    return None


def _logprobs(engine: Engine, sequences: Sequence[TokenSequence]) -> list[Tensor]:
    return [scores.logprobs for scores in engine.score(sequences, temperature=1.0)]


def _largest_difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """In nats; NaN if any number is NaN."""
    pairs = zip(found, expected, strict=True)
    return float(torch.cat([(ours - theirs).abs() for ours, theirs in pairs]).max())


def _has_window(model: PreTrainedModel) -> bool:
    """Whether some layer attends to the latest tokens only, by what the configuration says."""
    config = model.config.get_text_config()
    if layers := getattr(config, "layer_types", None):
        return any("sliding" in kind or "chunked" in kind for kind in layers)
    return any(getattr(config, key, None) for key in ("sliding_window", "attention_chunk_size"))


def _probe(vocabulary: int) -> list[TokenSequence]:
    """Sequences with two shared prefixes of different lengths and unequal completions."""
    first = [(7 * i + 3) % vocabulary for i in range(24)]
    second = [(11 * i + 5) % vocabulary for i in range(17)]
    return [
        TokenSequence.of(
            [*prefix, *[(13 * i + j) % vocabulary for i in range(1, 3 + j)]],
            [(5 * i + j) % vocabulary for i in range(1, 6 + j)],
        )
        for prefix in (first, second)
        for j in range(3)
    ]
