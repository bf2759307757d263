"""Weights in a lower type and the fp32 copies that the optimiser moves."""

import pytest
import torch
from torch import Tensor

from fastslow.policy.local.master import MasterWeights


def weight(dtype: torch.dtype, *values: float) -> Tensor:
    return torch.tensor(values, dtype=dtype, requires_grad=True)


def test_an_fp32_weight_is_its_own_master() -> None:
    parameter = weight(torch.float32, 1.0, 2.0)
    masters = MasterWeights({"w": parameter})
    assert masters.parameters["w"] is parameter
    assert masters.copies == {}
    parameter.sum().backward()
    assert parameter.grad is not None, "its gradient stays where it is"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_of_all_backward_passes_add_up_in_fp32(dtype: torch.dtype) -> None:
    parameter = weight(dtype, 1.0, 2.0)
    master = MasterWeights({"w": parameter}).parameters["w"]
    for factor in (1.0, 2.0**-10, 2.0**-10):  # in bf16 the small ones would vanish beside 1
        (factor * parameter).sum().backward()
        assert parameter.grad is None
    assert master.grad is not None
    assert master.grad.dtype == torch.float32
    assert master.grad.tolist() == [1 + 2 * 2.0**-10] * 2


def test_steps_below_the_weights_resolution_add_up() -> None:
    parameter = weight(torch.bfloat16, 1.0, -3.0)
    masters = MasterWeights({"w": parameter})
    for step in range(1, 65):
        with torch.no_grad():
            masters.parameters["w"].add_(2.0**-12)
        masters.publish()
        assert parameter.tolist() == (masters.parameters["w"].bfloat16()).tolist()
        assert (parameter[0] == 1.0) == (step <= 16), "bf16 has 2 ** -7 between 1 and 2"
    assert parameter.tolist() == [1 + 2.0**-6, -3 + 2.0**-6]
    assert parameter.dtype == torch.bfloat16
    assert parameter.requires_grad


def test_masters_are_restored_and_published_bit_for_bit() -> None:
    exact = torch.tensor([1.0 + 2.0**-20, 0.1])
    parameter = weight(torch.bfloat16, 0.0, 0.0)
    masters = MasterWeights({"w": parameter, "v": weight(torch.float32, 5.0)})
    masters.restore({"w": exact})
    assert torch.equal(masters.parameters["w"], exact)
    masters.publish()
    assert torch.equal(parameter, exact.bfloat16())
    assert masters.parameters["v"].tolist() == [5.0]
