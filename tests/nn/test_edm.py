"""EDM as rectified flow: the identities that make it so, and diffusers' scheduler beside it."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import EDMEulerScheduler

from detokenizers.flow import FixedShift, LogitNormal, VPrediction, euler
from detokenizers.nn.edm import KarrasGrid, Preconditioning

SIGMA_DATA = 0.5


def case(sigma: float):
    """Unit data z, noise n, and the same on both paths: EDM's x = sigma_data z + sigma n, ours at t."""
    generator = torch.Generator().manual_seed(0)
    z, n, output = (torch.randn(2, 3, 4, 4, generator=generator).double() for _ in range(3))
    s = sigma / SIGMA_DATA
    t = torch.full((2,), s / (1 + s), dtype=torch.float64)
    return z, n, output, SIGMA_DATA * z + sigma * n, (1 - t[0]) * z + t[0] * n, t


@pytest.mark.parametrize("sigma", [0.002, 0.3, 1.0, 80.0])
def test_the_velocity_leads_to_edms_denoised_image(sigma):
    *_, output, x, noisy, t = case(sigma)
    skip = SIGMA_DATA**2 / (sigma**2 + SIGMA_DATA**2)
    out, into = (
        sigma * SIGMA_DATA / math.hypot(sigma, SIGMA_DATA),
        1 / math.hypot(sigma, SIGMA_DATA),
    )
    edm = Preconditioning(sigma_data=SIGMA_DATA)
    assert torch.allclose(edm.scaled(noisy, t), into * x, rtol=1e-9)
    denoised = (noisy - t[0] * edm.velocity(output, noisy, t)) * SIGMA_DATA
    assert torch.allclose(denoised, skip * x + out * output, rtol=1e-7, atol=1e-9)
    assert float(edm.level(t)[0]) == pytest.approx(math.log(sigma) / 4, abs=1e-4)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 20.0])
def test_edms_loss_is_the_velocity_error_weighted_as_v_prediction(sigma):
    z, n, output, _, noisy, t = case(sigma)
    velocity = Preconditioning(sigma_data=SIGMA_DATA).velocity(output, noisy, t)
    ours = VPrediction()(t) * (velocity - (n - z)).square().flatten(1).mean(1)
    denoised = (noisy - t[0] * velocity) * SIGMA_DATA
    weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
    edms = weight * (denoised - SIGMA_DATA * z).square().flatten(1).mean(1)
    assert torch.allclose(ours, edms, rtol=1e-6)


def test_log_normal_sigmas_are_a_logit_normal_law_of_times():
    law = LogitNormal(shift=FixedShift(mu=-1.2 - math.log(SIGMA_DATA)), std=1.2)
    t = law(20_000, (4, 8, 8), generator=torch.Generator().manual_seed(0)).double()
    logs = (SIGMA_DATA * t / (1 - t)).log()
    assert float(logs.mean()) == pytest.approx(-1.2, abs=0.03)
    assert float(logs.std()) == pytest.approx(1.2, abs=0.03)


def test_the_sigmas_are_edms():
    assert KarrasGrid().sigmas(5).tolist() == pytest.approx([80, 17.5278, 2.51522, 0.169753, 0.002, 0], rel=1e-5)
    scheduler = EDMEulerScheduler(sigma_data=SIGMA_DATA)
    scheduler.set_timesteps(7)
    assert torch.allclose(KarrasGrid().sigmas(7), scheduler.sigmas.double(), rtol=1e-4)
    with pytest.raises(ValueError, match="at least one step"):
        KarrasGrid()(0, (4, 8, 8))


def test_euler_steps_are_those_of_diffusers():
    edm, weight = Preconditioning(sigma_data=SIGMA_DATA), torch.randn(3, 3, generator=torch.Generator().manual_seed(1))

    def net(scaled, level):
        return torch.einsum("bchw,cd->bdhw", scaled, weight).tanh() + level.view(-1, 1, 1, 1).to(scaled)

    scheduler = EDMEulerScheduler(sigma_data=SIGMA_DATA)
    scheduler.set_timesteps(6)
    start = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    x = start * SIGMA_DATA * (1 + scheduler.sigmas[0] / SIGMA_DATA)
    for step in scheduler.timesteps:
        x = scheduler.step(net(scheduler.scale_model_input(x, step), step.expand(2)), step, x).prev_sample
    ours = euler(
        lambda noisy, t: edm.velocity(net(edm.scaled(noisy, t), edm.level(t)), noisy, t), start, KarrasGrid()(6, ())
    )
    assert torch.allclose(ours * SIGMA_DATA, x, atol=2e-4)
