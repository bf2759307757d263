"""Weights on disk, in the form in which transformers and peft load them too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from fastslow.errors import RunError
from fastslow.models import no_progress_bars


def save_weights(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a model (or a peft adapter) and its tokenizer as a folder that others can load.

    Raises:
        OSError, SafetensorError: the disk refuses.
    """
    with no_progress_bars():
        model.save_pretrained(folder)
    try:
        tokenizer.save_pretrained(folder)
    except Exception as error:
        if type(error) is not Exception:
            raise
        # What the tokenizers library raises where a file cannot be written.
        raise OSError(f"{folder}: the tokenizer: {error}") from error


def load_weights(model: Any, folder: Path) -> None:
    """Read what ``save_weights`` wrote into a model of the same architecture, in place.

    Raises:
        RunError: the folder does not hold all of the weights that are trained.
    """
    try:
        tensors = {
            name: tensor
            for file in sorted(folder.glob("*.safetensors"))
            for name, tensor in load_file(file).items()
        }
    except (OSError, SafetensorError) as error:
        raise RunError(f"{folder}: the weights cannot be read: {error}") from None
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != shapes.get(name, tuple(tensor.shape)):
            raise RunError(
                f"{folder}: {name} has the shape {tuple(tensor.shape)}, in the model {shapes[name]}"
            )
    if hasattr(model, "peft_config"):
        from peft import set_peft_model_state_dict

        result: Any = set_peft_model_state_dict(model, tensors)
        missing = [name for name in result.missing_keys if "lora_" in name]
    else:
        missing = list(model.load_state_dict(tensors, strict=False).missing_keys)
        # Tied weights are stored once; the model lists the other names as missing.
        tied = {id(p) for n, p in model.named_parameters() if n in tensors}
        parameters = dict(model.named_parameters(remove_duplicate=False))
        missing = [name for name in missing if id(parameters.get(name)) not in tied]
    if missing:
        raise RunError(f"{folder}: the weights are incomplete: {', '.join(missing[:3])} missing")
