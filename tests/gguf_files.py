"""A tiny GGUF file, whole or not."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

CHAT_TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"


def write_gguf(path: Path, *, drop: Collection[str] = (), **counts: int) -> None:
    """A random one-layer Llama with a SmolLM tokenizer of single bytes and one merge.

    Args:
        path: the file.
        drop: names of tensors to leave out.
        counts: other values of its metadata.
    """
    import numpy as np
    from gguf import GGUFWriter
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(ByteLevel.alphabet()), "ĠĠ"]
    hidden, heads, kv_heads, inner = 32, 4, 2, 64
    kv = hidden // heads * kv_heads
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(counts.get("block_count", 1))
    writer.add_context_length(counts.get("context_length", 512))
    writer.add_embedding_length(counts.get("embedding_length", hidden))
    writer.add_feed_forward_length(counts.get("feed_forward_length", inner))
    writer.add_head_count(counts.get("head_count", heads))
    writer.add_head_count_kv(counts.get("head_count_kv", kv_heads))
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(counts.get("vocab_size", len(tokens)))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["Ġ Ġ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(CHAT_TEMPLATE)
    shapes = {
        "token_embd.weight": (len(tokens), hidden),
        "blk.0.attn_norm.weight": (hidden,),
        "blk.0.attn_q.weight": (hidden, hidden),
        "blk.0.attn_k.weight": (kv, hidden),
        "blk.0.attn_v.weight": (kv, hidden),
        "blk.0.attn_output.weight": (hidden, hidden),
        "blk.0.ffn_norm.weight": (hidden,),
        "blk.0.ffn_gate.weight": (inner, hidden),
        "blk.0.ffn_up.weight": (inner, hidden),
        "blk.0.ffn_down.weight": (hidden, inner),
        "output_norm.weight": (hidden,),
    }
    random = np.random.default_rng(0)
    for name, shape in shapes.items():
        if name in drop:
            continue
        writer.add_tensor(name, random.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
