"""Tiny random models of the architectures that people train."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from transformers import PreTrainedModel

VOCABULARY = 61
WINDOW = 6
"""Of the models that attend to the latest tokens only: shorter than the tests' sequences."""

_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,  # far from uniform, so that a mistake shows
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GPT2 = {"vocab_size": VOCABULARY, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 512}

CONFIGURATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"tie_word_embeddings": True}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {"head_dim": 8}),
    "mistral": ("Mistral", {"sliding_window": WINDOW}),
    "gemma2": (
        "Gemma2",
        {
            "head_dim": 8,
            "query_pre_attn_scalar": 8,
            "sliding_window": WINDOW,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": None,
        },
    ),
    "gpt2": ("GPT2", {**_GPT2, "initializer_range": 0.3}),
    # What follows cannot share prefixes.
    "gemma2_capped_head": (
        "Gemma2",
        {"head_dim": 8, "query_pre_attn_scalar": 8, "final_logit_softcapping": 3.0},
    ),
    "gpt_oss": (
        "GptOss",
        {"head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": WINDOW},
    ),
    "mask_window": ("Llama", {"sliding_window": 200}),  # never passed on, longer than the probe
    "mamba": ("Mamba", {"state_size": 4}),
}

Build = Callable[[str], PreTrainedModel]


def build_model(name: str) -> PreTrainedModel:
    """A new model with the same random weights every time."""
    family, options = CONFIGURATIONS[name]
    shape = {} if family == "GPT2" else _SHAPE
    if family == "Mamba":
        shape = {k: v for k, v in _SHAPE.items() if "heads" not in k}
    config = getattr(transformers, f"{family}Config")(**shape, **options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    return model.eval()


@pytest.fixture(scope="session")
def build() -> Build:
    """Builds a new model of an architecture."""
    return build_model
