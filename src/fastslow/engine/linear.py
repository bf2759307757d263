"""Matrix products of linear layers, by the fastest library at hand.

On a CPU in fp32, torch multiplies by a library that on some processors leaves a fifth and more of
their speed unused; oneDNN, which torch brings along, has kernels of its own for them.
"""

from __future__ import annotations

from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

_HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(
    torch.ops.mkldnn, "_linear_pointwise"
)


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """rows [N, in] times weight [out, in] transposed, plus bias [out]; without gradient."""
    if _is_served(rows):
        return _multiply(rows, weight, bias)
    return nn.functional.linear(rows, weight, bias)


class PackedWeight:
    """A layer's weight as oneDNN wants it for few rows, where packing costs as much as the product.

    It is packed when first asked for, and again after ``forget``, which whoever changes the weight
    calls: tensors do not tell of all changes, such as those of a fused optimiser.
    """

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight
        self._packed: Tensor | None = None

    def multiply(self, rows: Tensor, bias: Tensor | None) -> Tensor:
        """As ``linear``."""
        if not _is_served(rows):
            return nn.functional.linear(rows, self._weight, bias)
        if self._packed is None:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self._weight.detach(), 64)
        return _multiply(rows, self._packed, bias)

    def forget(self) -> None:
        """The weight has changed."""
        self._packed = None


def accelerate(model: nn.Module) -> list[PackedWeight]:
    """Let all linear layers of a model multiply by oneDNN where it serves, with gradient.

    Returns:
        The packed copies of their weights. Each must ``forget`` when weights change.
    """
    weights = []
    for module in model.modules():
        if type(module) is nn.Linear:
            weights.append(PackedWeight(module.weight))
            forward = partial(_forward, weights[-1])
            module.forward = MethodType(forward, module)  # type: ignore[method-assign]
    return weights


def restore(model: nn.Module) -> None:
    """Give the linear layers of an accelerated model their own product back.

    Without this a model that nobody tells of changed weights goes on with the packed copies.
    """
    for module in model.modules():
        replaced = module.__dict__.get("forward")
        product = getattr(replaced, "__func__", None)
        if isinstance(product, partial) and product.func is _forward:
            del module.forward


def _forward(packed: PackedWeight, self: nn.Linear, rows: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return packed.multiply(rows, self.bias)
    if not _is_served(rows):
        return nn.functional.linear(rows, self.weight, self.bias)
    product: Tensor = _Linear.apply(rows, self.weight, self.bias)  # type: ignore[no-untyped-call]
    return product


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return _multiply(rows, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        gradient = gradients[0]
        wants_rows, wants_weight, wants_bias = ctx.needs_input_grad
        flat = gradient.flatten(0, -2)
        return (
            _multiply(gradient, weight.t(), None) if wants_rows else None,
            # This product is as fast either way.
            flat.t() @ rows.flatten(0, -2) if wants_weight else None,
            flat.sum(dim=0) if wants_bias else None,
        )


def _is_served(rows: Tensor) -> bool:
    return (
        _HAS_ONEDNN
        and rows.device.type == "cpu"
        and rows.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
    )


def _multiply(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return product
