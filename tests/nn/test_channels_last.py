"""Channels last changes the speed of a net, and nothing that it computes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detokenizers.nn.channels_last import ExactGroupNorm, channels_last

LAST = torch.channels_last


def norm(kind: type[nn.GroupNorm] = ExactGroupNorm) -> nn.GroupNorm:
    torch.manual_seed(0)
    made = kind(4, 16)
    nn.init.normal_(made.weight)
    nn.init.normal_(made.bias)
    return made


def picture(mean: float, spread: float, *, flat: bool) -> torch.Tensor:
    """Activations in which only the channels differ, or every pixel."""
    draw = torch.Generator().manual_seed(1)
    return mean + spread * torch.randn(2, 16, *((1, 1) if flat else (48, 40)), generator=draw).expand(2, 16, 48, 40)


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize(("mean", "spread"), [(0.0, 1.0), (3.0, 0.01), (-30.0, 0.01), (1000.0, 5.0)])
def test_a_norm_is_exact_however_far_the_mean_is_above_the_spread(mean, spread, flat):
    x = picture(mean, spread, flat=flat)
    exact = norm().double()(x.double())
    found = norm()(x.contiguous(memory_format=LAST))
    assert (found - exact).abs().max() < 1e-5
    assert found.is_contiguous(memory_format=LAST)


def test_pytorch_s_own_norm_still_is_not():
    """When this fails, `ExactGroupNorm` may go."""
    x = picture(3.0, 0.01, flat=True).contiguous(memory_format=LAST)
    assert (norm(nn.GroupNorm)(x) - norm().double()(x.double())).abs().max() > 1e-2


@pytest.mark.parametrize("mean", [0.0, 10.0])
def test_gradients_are_those_of_the_definition(mean):
    x = picture(mean, 1.0, flat=False)
    wanted = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    gradients = []
    for kind, dtype in ((nn.GroupNorm, torch.float64), (ExactGroupNorm, torch.float32)):
        layer, given = norm(kind).to(dtype), x.to(dtype).contiguous(memory_format=LAST).requires_grad_()
        (layer(given) * wanted).sum().backward()
        gradients.append([given.grad.float(), layer.weight.grad.float(), layer.bias.grad.float()])
    for exact, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, exact, atol=2e-3, rtol=1e-4)


def test_frozen_weights_pass_gradients_on():
    x = picture(3.0, 1.0, flat=False).contiguous(memory_format=LAST).requires_grad_()
    layer = norm().requires_grad_(False)
    layer(x).square().sum().backward()
    assert x.grad.abs().sum() > 0
    assert layer.weight.grad is None


def test_a_net_keeps_its_weights_and_names_and_outputs():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3), norm(nn.GroupNorm), nn.SiLU(), nn.Conv2d(16, 2, 3))
    weights = {name: weight.clone() for name, weight in net.state_dict().items()}
    x = torch.randn(2, 3, 12, 12)
    before = net(x)
    assert channels_last(channels_last(net)) is net
    assert net[0].weight.is_contiguous(memory_format=LAST)
    assert type(net[1]) is ExactGroupNorm
    torch.testing.assert_close(net(x.contiguous(memory_format=LAST)), before, atol=1e-5, rtol=1e-5)
    assert all(torch.equal(weight, weights[name]) for name, weight in net.state_dict().items())
