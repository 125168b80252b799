"""The straight path and its relation to the VP path of DCDD Eq. 18 (spec F5)."""

import pytest
import torch

from detokenizers.flow.loss import Cosmap, One, VPrediction, velocity_error
from detokenizers.flow.path import clean_from, interpolate, path_variance, velocity


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
    alpha_bar = (1 - t) ** 2 / path_variance(t)
    assert alpha_bar.item() == pytest.approx(0.9)
    assert (noisy / path_variance(t).sqrt()).item() == pytest.approx(1.897367, abs=1e-6)


def test_time_zero_is_clean_and_time_one_is_noise(pair):
    clean, noise, _ = pair
    torch.testing.assert_close(interpolate(clean, noise, torch.zeros(5)), clean)
    torch.testing.assert_close(interpolate(clean, noise, torch.ones(5)), noise)


def test_the_true_velocity_points_back_to_clean(pair):
    clean, noise, t = pair
    noisy = interpolate(clean, noise, t)
    torch.testing.assert_close(clean_from(noisy, velocity(clean, noise), t), clean)


def vp(clean, noise, t):
    """Point and v-target of the variance-preserving path (DCDD Eq. 18), written out."""
    share = ((1 - t) ** 2 / path_variance(t))[:, None, None, None]
    return share.sqrt() * clean + (1 - share).sqrt() * noise, share.sqrt() * noise - (1 - share).sqrt() * clean


def test_the_vp_point_is_the_straight_path_over_n(pair):
    clean, noise, t = pair
    n = path_variance(t).sqrt()[:, None, None, None]
    torch.testing.assert_close(interpolate(clean, noise, t) / n, vp(clean, noise, t)[0])


def test_v_prediction_error_is_flow_error_weighted_by_n_squared(pair):
    clean, noise, t = pair
    noisy, guess = interpolate(clean, noise, t), velocity(clean, noise) + torch.randn_like(clean)
    ends = clean_from(noisy, guess, t), noisy + (1 - t)[:, None, None, None] * guess
    v_error = (vp(*ends, t)[1] - vp(clean, noise, t)[1]).square().flatten(1).mean(1)
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
