"""The rewritten parts compute what they stand for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from detokenizers.nn.uvit import Stem, Upsample, UViT
from detokenizers.nn.uvit_fast import PhaseUpsample, SplitStem, enlarged_convolution, for_sampling

from .test_uvit import TINY, inputs, net


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def test_phases_are_the_convolution_of_repeated_pixels():
    torch.manual_seed(0)
    plain, x = Upsample(6).double(), torch.randn(2, 6, 5, 7, dtype=torch.float64)
    unused = torch.zeros(())
    assert difference(PhaseUpsample(plain)(x, unused, unused), plain(x, unused, unused)) < 1e-13


@pytest.mark.parametrize("factor", [2, 3, 8])
def test_nine_kernels_are_the_convolution_of_an_enlarged_map(factor):
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 4, 5).double(), torch.randn(6, 3, 3, 3).double()
    plain = F.conv2d(F.interpolate(x, scale_factor=factor, mode="nearest"), weight, padding=1)
    assert difference(enlarged_convolution(x, weight, factor), plain) < 1e-13


@pytest.mark.parametrize("grid", [16, 8, 5, 1])
def test_a_split_stem_is_the_stem_at_any_condition_grid(grid):
    torch.manual_seed(0)
    stem = Stem(3, 4, 8).double()
    noisy, condition = torch.randn(2, 3, 16, 16).double(), torch.randn(2, 4, grid, grid).double()
    assert difference(SplitStem(stem, 3)(noisy, condition), stem(noisy, condition)) < 1e-13


@pytest.mark.parametrize("patch", [1, 2])
def test_the_copy_for_sampling_computes_the_same(patch):
    model, (noisy, t, condition) = net(TINY.vary(patch=patch)), inputs()
    assert difference(for_sampling(model)(noisy, t, condition), model(noisy, t, condition)) < 1e-5
    once = torch.ones(2)
    assert difference(for_sampling(model, t=1.0)(noisy, once, condition), model(noisy, once, condition)) < 1e-5


def test_in_half_precision_and_channels_last_it_is_the_same_within_two_percent():
    model, (noisy, t, condition) = net(), inputs()
    fast = for_sampling(model).to(torch.bfloat16).to(memory_format=torch.channels_last)
    noisy = noisy.to(memory_format=torch.channels_last)
    exact = model(noisy, t, condition)
    assert difference(for_sampling(model).to(memory_format=torch.channels_last)(noisy, t, condition), exact) < 1e-5
    assert difference(fast(noisy.bfloat16(), t.bfloat16(), condition.bfloat16()).float(), exact) < 2e-2


def test_with_a_fixed_time_the_time_is_no_longer_read():
    model, (noisy, t, condition) = for_sampling(net(), t=1.0), inputs()
    assert torch.equal(model(noisy, t, condition), model(noisy, torch.ones(2), condition))


def test_the_trained_net_stays_what_it_is():
    model = net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fast = for_sampling(model, t=1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(weight.requires_grad for weight in model.parameters())
    assert not any(weight.requires_grad for weight in fast.parameters())
    assert not any(isinstance(part, Upsample | Stem) for part in fast.modules())
    assert isinstance(fast, UViT)
