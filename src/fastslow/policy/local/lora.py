"""Low-rank adapters (peft) on a local model."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from fastslow.config import LoraConfig
from fastslow.errors import InputError


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name belongs to an adapter."""
    return "lora_" in name


def add_lora(model: PreTrainedModel, lora: LoraConfig, seed: int) -> Any:
    """The model with fresh adapters on ``slow.lora.targets``, all drawn from ``seed``.

    Raises:
        InputError: peft is missing, or the targets cannot have adapters.
    """
    try:
        import peft
    except ImportError:
        raise InputError(
            "slow.lora is set, which needs the package peft: pip install 'fastslow[lora]'"
        ) from None
    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            adapted = peft.get_peft_model(
                model,
                peft.LoraConfig(
                    r=lora.rank,
                    lora_alpha=lora.alpha,  # type: ignore[arg-type]
                    target_modules=targets,
                    task_type="CAUSAL_LM",
                ),
            )
        except ValueError as error:
            raise InputError(f"slow.lora.targets: {error}") from None
    _refuse_tied_targets(adapted)
    return adapted


def _refuse_tied_targets(adapted: Any) -> None:
    """An adapter on one of two layers that share a weight is trained for that layer alone, but
    merging adds it to the weight of both. Raises: InputError."""
    owners: dict[int, list[str]] = {}
    for name, parameter in adapted.named_parameters(remove_duplicate=False):
        layer = name.removeprefix("base_model.model.").replace(".base_layer", "")
        owners.setdefault(id(parameter), []).append(layer.rpartition(".")[0])
    for name, module in adapted.named_modules():
        weight = getattr(getattr(module, "base_layer", None), "weight", None)
        layers = owners.get(id(weight), [])
        if len(layers) > 1:
            target = name.removeprefix("base_model.model.")
            other = next(layer for layer in layers if layer != target)
            raise InputError(
                f"slow.lora.targets: {target!r} shares its weight with {other!r} (tied "
                "embeddings), so the adapter could not be merged into the model: leave it out"
            )
