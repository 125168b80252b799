"""SD3's transformer conditioned on a map."""

from __future__ import annotations

import pytest
import torch

from detokenizers.pretrained.sd3 import SD3Config, SD3Net

TINY = SD3Config(condition=3, latent_channels=2, latent_size=8, layers=2, heads=2, head_dim=8)
T = torch.tensor([0.2, 0.9])


def net() -> SD3Net:
    torch.manual_seed(0)
    built = SD3Net(TINY)
    with torch.no_grad():
        for weight in built.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return built


def test_time_and_every_cell_of_the_condition_matter():
    model, noisy, condition = net(), torch.randn(2, 2, 8, 8), torch.randn(2, 3, 4, 4)
    base = model(noisy, T, condition)
    assert base.shape == noisy.shape
    assert (model(noisy, T / 2, condition) - base).abs().mean() > 1e-3
    swapped = condition.transpose(2, 3)  # the same tokens in other places
    assert (model(noisy, T, swapped) - base).abs().mean() > 1e-4


def test_the_pure_ends_of_the_path_are_finite():
    model, noisy = net(), torch.randn(2, 2, 8, 8)
    assert torch.isfinite(model(noisy, torch.tensor([0.0, 1.0]), torch.randn(2, 3, 4, 4))).all()


def test_the_wrong_condition_is_refused():
    with pytest.raises(ValueError, match="conditioned on 3 channels, not 4"):
        net()(torch.randn(2, 2, 8, 8), T, torch.randn(2, 4, 4, 4))


def test_at_full_size_it_has_the_parameters_of_this_class_and_not_the_papers():
    with torch.device("meta"):
        count = sum(weight.numel() for weight in SD3Net(SD3Config()).parameters())
    assert round(count / 1e6, 1) == 1327.2
