"""Solvers follow a velocity from noise to clean; noise depends on seeds alone (spec F6)."""

import math

import pytest
import torch

from detokenizers.flow import FixedShift, TimeGrid, euler, guided, heun, noise, velocity

CLEAN = noise((3, 4, 4), [100, 101])
START = noise((3, 4, 4), [0, 1])
EVEN = TimeGrid(shift=FixedShift())


@pytest.mark.parametrize("solver", [euler, heun])
@pytest.mark.parametrize("steps", [1, 2, 7, 30])
def test_the_exact_velocity_leads_back_to_clean_in_any_number_of_steps(solver, steps):
    end = solver(lambda *_: velocity(CLEAN, START), START, TimeGrid()(steps, (16, 48, 48)))
    torch.testing.assert_close(end, CLEAN, atol=1e-5, rtol=0)


def test_a_flipped_sign_does_not_lead_back():
    end = euler(lambda *_: -velocity(CLEAN, START), START, EVEN(10, ()))
    assert (end - CLEAN).abs().mean() > 1


def test_a_net_that_sees_state_and_time_still_ends_at_clean():
    def net(noisy, t):
        return (noisy - CLEAN) / t[:, None, None, None]

    torch.testing.assert_close(euler(net, START, EVEN(5, ())), CLEAN, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("steps", "alpha", "std"),
    [(1, 1, 0), (8, 1, 0.591), (8, 2, 0.559), (50, 1, 0.681), (50, 2, 0.675), (250, 1, 0.697)],
)
def test_few_steps_narrow_a_gaussian_by_as_much_as_calculated(steps, alpha, std):
    """The spec's oracle: data N(1.5, 0.7²), whose velocity is known; a wrong sign, time or shift changes the spread."""
    mean, variance = 1.5, 0.7**2

    def oracle(x, t):
        t = t[:, None]
        slope = (t - (1 - t) * variance) / ((1 - t) ** 2 * variance + t**2)
        return slope * (x - (1 - t) * mean) - mean

    start = torch.randn(1, 100_000, generator=torch.Generator().manual_seed(0))
    end = euler(oracle, start, TimeGrid(shift=FixedShift(mu=math.log(alpha)))(steps, ()))
    assert end.mean().item() == pytest.approx(mean, abs=0.01)
    assert end.std().item() == pytest.approx(std, abs=0.003 + 0.003 * (steps > 100))


def test_heun_is_more_exact_than_euler_on_a_curved_field():
    def net(noisy, t):
        return noisy * torch.cos(3 * t)[:, None, None, None]

    exact = START * torch.exp(-torch.sin(torch.tensor(3.0)) / 3)
    error = {solver: (solver(net, START, EVEN(12, ())) - exact).abs().max() for solver in (euler, heun)}
    assert error[heun] < error[euler] / 3


def test_the_net_is_asked_at_every_time_but_zero_and_progress_sees_each_step():
    asked, seen = [], []
    times = TimeGrid(shift=FixedShift(mu=0.5))(3, ())

    def net(noisy, t):
        asked.append(t)
        return torch.zeros_like(noisy)

    def watch(steps):
        for step in steps:
            seen.append(step)
            yield step

    euler(net, START, times, watch)
    torch.testing.assert_close(torch.stack(asked), times[:-1, None].expand(3, 2))
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("shape", [(5,), (7, 3), (2, 4, 4)])
def test_states_of_any_rank_are_followed(shape):
    clean, start = noise(shape, [4, 5]), noise(shape, [6, 7])
    end = heun(lambda noisy, t: (noisy - clean) / t.view(-1, *(1,) * len(shape)), start, EVEN(4, shape))
    torch.testing.assert_close(end, clean, atol=1e-5, rtol=0)


def test_guidance_extrapolates_from_the_unconditional_velocity_and_at_one_never_computes_it():
    def fails(noisy, t):
        raise AssertionError("the unconditional velocity was computed")

    conditional, unconditional = (lambda noisy, t: 3 * noisy), (lambda noisy, t: noisy + t[:, None, None, None])
    t = torch.tensor([0.5, 1.0])
    expected = unconditional(START, t) + 2.5 * (conditional(START, t) - unconditional(START, t))
    torch.testing.assert_close(guided(conditional, unconditional, 2.5)(START, t), expected)
    torch.testing.assert_close(guided(conditional, unconditional, 0.0)(START, t), unconditional(START, t))
    assert torch.equal(guided(conditional, fails, 1.0)(START, t), conditional(START, t))


def test_noise_of_an_item_depends_on_its_seed_alone():
    many = noise((2, 3), [7, 8, 9])
    assert torch.equal(many[1:2], noise((2, 3), [8]))
    assert not torch.equal(many[0], many[2])


def test_noise_is_unit_normal():
    draw = noise((64, 64), [3, 4])
    assert draw.mean().abs() < 0.03
    assert (draw.std() - 1).abs() < 0.03
