"""Products of linear layers: the same as torch's, whichever library computes them."""

import pytest
import torch
from torch import Tensor, nn

from fastslow.engine import linear as linear_module
from fastslow.engine.linear import PackedWeight, accelerate, linear

IN, OUT = 12, 10


@pytest.fixture(params=["oneDNN", "torch"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "oneDNN" and not linear_module._HAS_ONEDNN:
        pytest.skip("this torch comes without oneDNN")
    monkeypatch.setattr(linear_module, "_HAS_ONEDNN", request.param == "oneDNN")
    return str(request.param)


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Layers(nn.Module):
    """Linear layers with and without a bias, and one of a class of its own."""

    class Scaled(nn.Linear):
        def forward(self, rows: Tensor) -> Tensor:
            return 2 * super().forward(rows)

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first, self.second = nn.Linear(IN, OUT), nn.Linear(OUT, OUT, bias=False)
            self.third = self.Scaled(OUT, 3)

    def forward(self, rows: Tensor) -> Tensor:
        result: Tensor = self.third(self.second(self.first(rows)))
        return result


def accelerated() -> tuple[Layers, list[PackedWeight]]:
    layers = Layers()
    return layers, accelerate(layers)


@pytest.mark.parametrize("shape", [(1,), (7,), (2, 5)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_a_product_is_torch_s(library: str, shape: tuple[int, ...], has_bias: bool) -> None:
    rows, weight = random(*shape, IN), random(OUT, IN, seed=2)
    bias = random(OUT, seed=3) if has_bias else None
    expected = nn.functional.linear(rows, weight, bias)
    for found in (linear(rows, weight, bias), PackedWeight(weight).multiply(rows, bias)):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_tensors_that_lie_crosswise_are_multiplied_right(library: str) -> None:
    rows, weight = random(IN, 7).t(), random(IN, OUT, seed=2).t()
    torch.testing.assert_close(linear(rows, weight), rows @ weight.t(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(7,), (2, 5)])
def test_an_accelerated_model_computes_the_same_with_the_same_gradients(
    library: str, shape: tuple[int, ...]
) -> None:
    fast, _ = accelerated()
    plain = Layers()
    inputs = [random(*shape, IN).requires_grad_() for _ in range(2)]
    # A sum's gradient is one number seen everywhere: its strides are zero.
    for model, rows in zip((fast, plain), inputs, strict=True):
        (model(rows).sum() + model(rows).square().sum()).backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-4, atol=1e-5)
    for ours, reference in zip(fast.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, reference.grad, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(fast(inputs[0]), plain(inputs[0]), rtol=1e-5, atol=1e-5)


def test_only_what_is_trained_gets_a_gradient(library: str) -> None:
    fast, _ = accelerated()
    fast.first.requires_grad_(False)
    rows = random(4, IN)
    fast(rows).sum().backward()
    has_gradient = {name: p.grad is not None for name, p in fast.named_parameters()}
    assert has_gradient == {
        "first.weight": False,
        "first.bias": False,
        "second.weight": True,
        "third.weight": True,
        "third.bias": True,
    }
    fast.requires_grad_(False)
    leaf = rows.requires_grad_()
    fast(leaf).sum().backward()
    assert leaf.grad is not None


def test_a_changed_weight_is_multiplied_by_once_the_old_one_is_forgotten(library: str) -> None:
    fast, packed = accelerated()
    rows = random(4, IN)
    with torch.no_grad():
        before = fast(rows)
        for parameter in fast.parameters():
            parameter.mul_(3).add_(0.1)
        for weight in packed:
            weight.forget()
        changed = fast(rows)
    plain = Layers()
    plain.load_state_dict(fast.state_dict())
    torch.testing.assert_close(changed, plain(rows).detach(), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(changed, before)


def test_layers_of_other_classes_keep_their_own_product() -> None:
    fast, packed = accelerated()
    assert len(packed) == 2
    states = random(4, OUT)
    expected = 2 * nn.functional.linear(states, fast.third.weight, fast.third.bias)
    torch.testing.assert_close(fast.third(states), expected)


@pytest.mark.parametrize("with_gradient", [True, False])
def test_bfloat16_models_are_served(library: str, with_gradient: bool) -> None:
    fast, _ = accelerated()
    plain = Layers().bfloat16()
    fast.bfloat16()
    with torch.set_grad_enabled(with_gradient):
        rows = random(4, IN).bfloat16()
        found, expected = fast(rows), plain(rows)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("with_gradient", [True, False])
def test_autocast_is_obeyed(library: str, with_gradient: bool) -> None:
    fast, _ = accelerated()
    with torch.set_grad_enabled(with_gradient), torch.autocast("cpu", torch.bfloat16):
        assert fast(random(4, IN)).dtype == torch.bfloat16
