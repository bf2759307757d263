"""AdamW on the trainable weights of a local model, and its state on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fastslow.config import SlowConfig
from fastslow.errors import InputError
from fastslow.policy.local.master import MasterWeights

FILE = "optimiser.safetensors"

MASTER = "master"
"""Key of the fp32 copy of a weight beside its optimiser state."""

_MOMENTS = ("exp_avg", "exp_avg_sq")


class Optimiser:
    """AdamW with fp32 masters (paper, App. D).

    Args:
        model: those of its parameters that require a gradient are trained.
        config: the ``[slow]`` table.
    """

    def __init__(self, model: torch.nn.Module, config: SlowConfig) -> None:
        parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._names = list(parameters)
        self._masters = MasterWeights(parameters)
        self._adam = torch.optim.AdamW(
            self._masters.parameters.values(),
            lr=config.lr,
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=True,
        )

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """The fp32 weights that it moves, by name."""
        return self._masters.parameters

    def clear_gradient(self) -> None:
        self._adam.zero_grad(set_to_none=True)

    def clip(self, max_norm: float) -> float:
        """Clip the gradient; returns its norm before."""
        norm: float = torch.nn.utils.clip_grad_norm_(
            self._masters.parameters.values(), max_norm
        ).item()
        return norm

    def step(self, lr: float) -> None:
        """One step along the gradient."""
        for group in self._adam.param_groups:
            group["lr"] = lr
        self._adam.step()
        self._masters.publish()

    def save(self, folder: Path) -> None:
        """Write the state as safetensors."""
        tensors = {
            f"{name}.{key}": value.contiguous()
            for name, parameter in self._masters.parameters.items()
            for key, value in self._adam.state.get(parameter, {}).items()
        }
        tensors |= {f"{name}.{MASTER}": master for name, master in self._masters.copies.items()}
        save_file(tensors, folder / FILE)

    def load(self, folder: Path) -> None:
        """Read what ``save`` wrote. Raises: InputError if it is not of this model."""
        tensors = self._read(folder / FILE)
        state: dict[str, Any] = self._adam.state_dict()
        # The optimiser counts its parameters in the order in which it was given them.
        entries = {number: _entry(tensors, name) for number, name in enumerate(self._names)}
        state["state"] = {number: entry for number, entry in entries.items() if entry}
        self._adam.load_state_dict(state)
        self._masters.restore({name: tensors[f"{name}.{MASTER}"] for name in self._masters.copies})

    def _read(self, path: Path) -> dict[str, Tensor]:
        """The tensors. A fused kernel would read beyond one that is too small."""
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path}: cannot be read: {error}") from None
        for name, key, shape in self._expected(tensors):
            tensor = tensors.get(f"{name}.{key}")
            if tensor is None or tuple(tensor.shape) != shape:
                found = "missing" if tensor is None else f"of shape {tuple(tensor.shape)}"
                raise InputError(f"{path}: {name}.{key} is {found}; expected shape {shape}")
            if tensor.dtype != torch.float32 or not bool(tensor.isfinite().all()):
                raise InputError(f"{path}: {name}.{key} : expected finite float32 numbers")
        return tensors

    def _expected(self, tensors: dict[str, Tensor]) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        """Name, key and shape of every tensor that has to be there."""
        for name, parameter in self._masters.parameters.items():
            shape = tuple(parameter.shape)
            if name in self._masters.copies:
                yield name, MASTER, shape
            if _entry(tensors, name):  # a parameter that was never updated has no state
                yield name, "step", ()
                for moment in _MOMENTS:
                    yield name, moment, shape


def _entry(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The optimiser's state of one parameter."""
    keys = (key for key in ("step", *_MOMENTS) if f"{name}.{key}" in tensors)
    return {key: tensors[f"{name}.{key}"] for key in keys}
