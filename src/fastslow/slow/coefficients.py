"""A loss as one number per token, for backends that cannot run it themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from fastslow.slow.base import LossInputs


def coefficients(
    loss: Callable[[LossInputs], Tensor], inputs: LossInputs, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """The value of a batch's loss, and what its gradient multiplies grad log pi_theta by.

    A backend that descends ``-(c * log pi_theta).sum()`` with c held still takes the same step as
    one that descends the loss. Of a loss that reads divergences there are no coefficients: they
    depend on more than the sampled tokens.

    Args:
        loss: [N] losses per token.
        inputs: of whole sequences.
        weights: [N] ``Datum.weights`` of the same tokens.

    Returns:
        The weighted sum, and [N] c = -dL/dlogp.
    """
    leaf = inputs.logprobs.detach().requires_grad_()
    value = (weights * loss(replace(inputs, logprobs=leaf))).sum()
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), -gradient
