"""Tiny random models of the causal language models that transformers has, by model type."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

VOCABULARY = 61

_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "sliding_window": 6,
    "initializer_range": 0.3,  # far from uniform, so that a mistake shows
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    # The same sizes under the names that older architectures have for them.
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 512,
    "n_ctx": 512,
    "d_model": 16,
    "n_heads": 4,
    "n_layers": 2,
    "max_seq_len": 512,
    "num_layers": 2,
    "ffn_dim": 24,
    "ffn_hidden_size": 24,
    "word_embed_proj_dim": 16,
    "init_std": 0.3,
    "context_length": 512,
    "attention_hidden_size": 16,
    "rotary_dim": 4,
    "num_heads": 4,
    # Mixtures of experts and recurrent layers.
    "num_local_experts": 2,
    "num_experts": 2,
    "n_routed_experts": 2,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 8,
    "state_size": 4,
    "lru_width": 16,
    "rescale_every": 1,
}

_OWN: dict[str, dict[str, Any]] = {
    "mamba2": {"num_heads": 4, "head_dim": 8, "n_groups": 1, "chunk_size": 8},
    "gemma2": {"query_pre_attn_scalar": 8},
}
"""Sizes that an architecture wants in place of these."""

PADDED = (
    *("bloom", "codegen", "cohere", "cohere2", "diffllama", "doge", "falcon"),
    *("falcon_mamba", "gemma2", "gpt_oss", "gptj", "granite_swa", "hrm_text", "jamba", "lfm3"),
    *("llama4_text", "mamba", "mamba2", "minimax", "mpt", "nanochat", "olmo_hybrid", "openai-gpt"),
    *("phimoe", "recurrent_gemma", "rwkv", "vaultgemma", "xglm", "xlstm"),
)
"""Architectures that the padded engine serves."""

SHARED = (
    *("apertus", "arcee", "ernie4_5", "exaone4", "gemma", "gemma3_text", "glm", "glm4", "gpt2"),
    *("gpt_bigcode", "gpt_neox", "granite", "granitemoe", "internlm3", "llama"),
    *("mistral", "mixtral", "nemotron", "olmo", "olmo2", "olmo3", "olmoe", "opt", "persimmon"),
    *(
        "phi",
        "phi3",
        "qwen2",
        "qwen3",
        "qwen3_moe",
        "seed_oss",
        "smollm3",
        "stablelm",
        "starcoder2",
    ),
)
"""Architectures that share prefixes."""


def build_architecture(model_type: str, **options: Any) -> PreTrainedModel:
    """A new model with the same random weights every time, in evaluation mode."""
    config_class = CONFIG_MAPPING[model_type]
    known = {field.name for field in dataclasses.fields(config_class)}
    sizes = {**_SIZES, **_OWN.get(model_type, {}), **options}
    config = config_class(**{name: size for name, size in sizes.items() if name in known})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    return model.eval()
