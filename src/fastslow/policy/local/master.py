"""fp32 copies of weights that compute in a lower type.

A step of 1e-6 is lost on a weight in bf16, which has 8 bits of precision: the optimiser moves the
copies, and the weights follow, rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


class MasterWeights:
    """What the optimiser moves in the place of parameters, by their names.

    A parameter in fp32 is its own master. The gradient of any other, which every backward pass
    leaves there in the parameter's type, is added to the master's in fp32 and taken away.

    Attributes:
        parameters: fp32 tensors, with the gradients of all backward passes since they were cleared.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self.parameters: dict[str, Tensor] = {}
        self.copies: dict[str, Tensor] = {}
        self._originals = parameters
        for name, parameter in parameters.items():
            if parameter.dtype == torch.float32:
                self.parameters[name] = parameter
                continue
            master = parameter.detach().float().clone().requires_grad_()
            self.parameters[name] = self.copies[name] = master
            parameter.register_post_accumulate_grad_hook(_collect_in(master))

    @torch.no_grad()
    def publish(self) -> None:
        """Round the masters to the parameters."""
        for name, master in self.copies.items():
            self._originals[name].copy_(master)

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take masters from a checkpoint, by their names."""
        for name, master in self.copies.items():
            master.copy_(tensors[name])


def _collect_in(master: Tensor) -> Callable[[Tensor], None]:
    def collect(parameter: Tensor) -> None:
        assert parameter.grad is not None
        if master.grad is None:
            master.grad = parameter.grad.float()
        else:
            master.grad += parameter.grad
        parameter.grad = None

    return collect
