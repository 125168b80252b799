"""Solvers follow a velocity from noise to clean; noise depends on seeds alone (spec F6)."""

import pytest
import torch

from detokenizers.flow import euler, flux_mu, heun, noise, time_grid, velocity

CLEAN = noise((3, 4, 4), [100, 101])
START = noise((3, 4, 4), [0, 1])
NOTHING = torch.empty(2, 0)


@pytest.mark.parametrize("solver", [euler, heun])
@pytest.mark.parametrize("steps", [1, 2, 7, 30])
def test_the_exact_velocity_leads_back_to_clean_in_any_number_of_steps(solver, steps):
    end = solver(lambda *_: velocity(CLEAN, START), START, time_grid(steps, flux_mu(576)), NOTHING)
    torch.testing.assert_close(end, CLEAN, atol=1e-5, rtol=0)


def test_a_flipped_sign_does_not_lead_back():
    end = euler(lambda *_: -velocity(CLEAN, START), START, time_grid(10), NOTHING)
    assert (end - CLEAN).abs().mean() > 1


def test_a_net_that_sees_state_and_time_still_ends_at_clean():
    def net(noisy, t, condition):
        return (noisy - condition) / t[:, None, None, None]

    torch.testing.assert_close(euler(net, START, time_grid(5), CLEAN), CLEAN, atol=1e-5, rtol=0)


def test_heun_is_more_exact_than_euler_on_a_curved_field():
    def net(noisy, t, condition):
        return noisy * torch.cos(3 * t)[:, None, None, None]

    exact = START * torch.exp(-torch.sin(torch.tensor(3.0)) / 3)
    error = {solver: (solver(net, START, time_grid(12), NOTHING) - exact).abs().max() for solver in (euler, heun)}
    assert error[heun] < error[euler] / 3


def test_the_net_is_asked_at_every_time_but_zero_and_progress_sees_each_step():
    asked, seen = [], []
    times = time_grid(3, 0.5)

    def net(noisy, t, condition):
        asked.append(t)
        return torch.zeros_like(noisy)

    def watch(steps):
        for step in steps:
            seen.append(step)
            yield step

    euler(net, START, times, NOTHING, watch)
    torch.testing.assert_close(torch.stack(asked), times[:-1, None].expand(3, 2))
    assert seen == [0, 1, 2]


def test_noise_of_an_item_depends_on_its_seed_alone():
    many = noise((2, 3), [7, 8, 9])
    assert torch.equal(many[1:2], noise((2, 3), [8]))
    assert not torch.equal(many[0], many[2])


def test_noise_is_the_same_numbers_in_any_precision():
    half = noise((2, 3), [7, 8], dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, noise((2, 3), [7, 8]).bfloat16())


def test_noise_is_unit_normal():
    draw = noise((64, 64), [3, 4])
    assert draw.mean().abs() < 0.03
    assert (draw.std() - 1).abs() < 0.03
