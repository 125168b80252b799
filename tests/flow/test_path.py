"""The straight path and its relation to the VP path of DCDD Eq. 18 (spec F5)."""

import pytest
import torch

from detokenizers.flow.loss import Cosmap, One, VPrediction, velocity_error
from detokenizers.flow.path import (
    alpha_bar,
    clean_from,
    interpolate,
    noise_from,
    path_variance,
    to_vp,
    velocity,
    vp_velocity,
)


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 5, 3, 2, 2, generator=generator, dtype=torch.float64)
    return clean, noise, torch.rand(5, generator=generator, dtype=torch.float64)


def test_the_golden_point_of_the_spec():
    clean, noise, t = (torch.tensor([value], dtype=torch.float64) for value in (1.0, 3.0, 0.25))
    noisy = interpolate(clean, noise, t)
    assert noisy.item() == pytest.approx(1.5)
    assert velocity(clean, noise).item() == pytest.approx(2.0)
    assert path_variance(t).item() == pytest.approx(0.625)
    assert alpha_bar(t).item() == pytest.approx(0.9)
    assert to_vp(noisy, t).item() == pytest.approx(1.897367, abs=1e-6)
    assert vp_velocity(clean, noise, t).item() == pytest.approx(2.529822, abs=1e-6)


def test_time_zero_is_clean_and_time_one_is_noise(pair):
    clean, noise, _ = pair
    torch.testing.assert_close(interpolate(clean, noise, torch.zeros(5)), clean)
    torch.testing.assert_close(interpolate(clean, noise, torch.ones(5)), noise)


def test_the_true_velocity_points_back_to_both_ends(pair):
    clean, noise, t = pair
    noisy = interpolate(clean, noise, t)
    torch.testing.assert_close(clean_from(noisy, velocity(clean, noise), t), clean)
    torch.testing.assert_close(noise_from(noisy, velocity(clean, noise), t), noise)


def test_the_vp_point_mixes_clean_and_noise_by_alpha_bar(pair):
    clean, noise, t = pair
    share = alpha_bar(t)[:, None, None, None]
    expected = share.sqrt() * clean + (1 - share).sqrt() * noise
    torch.testing.assert_close(to_vp(interpolate(clean, noise, t), t), expected)


def test_v_prediction_error_is_flow_error_weighted_by_n_squared(pair):
    clean, noise, t = pair
    noisy, guess = interpolate(clean, noise, t), velocity(clean, noise) + torch.randn_like(clean)
    v_guess = vp_velocity(clean_from(noisy, guess, t), noise_from(noisy, guess, t), t)
    v_error = (v_guess - vp_velocity(clean, noise, t)).square().flatten(1).mean(1)
    weighted = VPrediction()(t) * velocity_error(guess, velocity(clean, noise))
    torch.testing.assert_close(weighted.float(), v_error.float())


def test_weights_are_one_n_squared_and_cosmap():
    t = torch.tensor([0.0, 0.5, 1.0])
    torch.testing.assert_close(One()(t), torch.ones(3))
    torch.testing.assert_close(VPrediction()(t), torch.tensor([1.0, 0.5, 1.0]))
    torch.testing.assert_close(Cosmap()(t), torch.tensor([2.0, 4.0, 2.0]) / torch.pi)


def test_cosmap_agrees_with_diffusers():
    from diffusers.training_utils import compute_loss_weighting_for_sd3

    t = torch.linspace(0.01, 0.99, 9)
    torch.testing.assert_close(Cosmap()(t), compute_loss_weighting_for_sd3("cosmap", sigmas=t))


def test_the_loss_is_computed_in_fp32_per_item():
    predicted = torch.full((2, 3, 1, 1), 2.0, dtype=torch.bfloat16)
    loss = velocity_error(predicted, torch.tensor([1.0, 4.0])[:, None, None, None].expand(2, 3, 1, 1))
    assert loss.dtype == torch.float32
    assert loss.tolist() == [1.0, 4.0]
