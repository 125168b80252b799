"""The heads: what is true of them before any training."""

from __future__ import annotations

import pytest
import torch

from detokenizers.flow import clean_from, euler, heun, interpolate, velocity
from detokenizers.madit.heads import Flow, Full, Head, HeadConfig, Regression, Residual
from detokenizers.nn.flow_mlp import FlowMLP


def head(velocity=None, live: bool = False) -> Head:
    torch.manual_seed(0)
    made = Head(HeadConfig(velocity=velocity or Residual(), width=12, blocks=2), 10, 6)
    if live:
        for parameter in made.net.parameters():
            parameter.data += 0.3 * torch.randn(parameter.shape)
    return made


def test_the_path_and_its_velocity_are_those_of_rectified_flow():
    h, noise = torch.randn(4, 3, 6, dtype=torch.float64), torch.randn(4, 3, 6, dtype=torch.float64)
    t = torch.tensor([0.0, 0.3, 0.7, 1.0], dtype=torch.float64)
    z, v = interpolate(h, noise, t), velocity(h, noise)
    torch.testing.assert_close(z[0], h[0])
    torch.testing.assert_close(z[3], noise[3])
    torch.testing.assert_close(clean_from(z, v, t), h)
    torch.testing.assert_close(z + (1 - t[:, None, None]) * v, noise)


@pytest.mark.parametrize(
    ("solver", "steps", "factor"),
    [
        ("euler", 1, 0.0), ("euler", 2, 0.2), ("euler", 5, 24 / 65), ("euler", 10, 0.430783),
        ("euler", 50, 0.485397), ("heun", 5, 0.458521), ("heun", 10, 0.490813),
    ],
)  # fmt: skip
def test_integrating_the_exact_velocity_of_a_gaussian_gives_the_known_spread(solver, steps, factor):
    """Data N(0, .25): E[noise - clean | z] = z (t - .25 (1 - t)) / (t^2 + .25 (1 - t)^2)."""

    def exact(z, t):
        t = t[:, None]
        return z * (t - 0.25 * (1 - t)) / (t.square() + 0.25 * (1 - t).square())

    times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    start = torch.ones(1, 1, dtype=torch.float64)
    end = {"euler": euler, "heun": heun}[solver](exact, start, times, None)
    assert float(end) == pytest.approx(factor, abs=1e-6)
    grid = Flow(steps=steps).grid(steps, (3, 6))
    torch.testing.assert_close(grid, times.float())


@pytest.mark.parametrize("solver", ["euler", "heun"])
@pytest.mark.parametrize("steps", [1, 3, 10])
def test_a_residual_head_that_is_zero_draws_the_coarse_patch_from_any_noise(solver, steps):
    made, context, noise = head(), torch.randn(2, 3, 10), torch.randn(2, 3, 6)
    drawn = Flow(solver=solver, steps=steps)(made, context, None, 1.0, noise)
    torch.testing.assert_close(drawn, made.coarse(context), atol=1e-5, rtol=1e-5)


def test_a_head_that_knows_its_target_gives_the_exact_velocity():
    clean, noise, coarse = torch.randn(3, 2, 6), torch.randn(3, 2, 6), torch.randn(3, 2, 6)
    t = torch.tensor([0.1, 0.5, 1.0])
    o = Residual().target(clean, noise, coarse)
    z = interpolate(clean, noise, t)
    torch.testing.assert_close(Residual().velocity(o, z, t[:, None, None], coarse), velocity(clean, noise))
    whole = Full().target(clean, noise, coarse)
    torch.testing.assert_close(Full().velocity(whole, z, t[:, None, None], coarse), velocity(clean, noise))
    # The residual velocity beyond the coarse one is -o / t.
    without = (z - coarse) / t[:, None, None]
    torch.testing.assert_close(velocity(clean, noise) - without, -o / t[:, None, None], atol=1e-5, rtol=1e-4)


def test_targets_at_a_zero_output_are_the_regression_error_and_the_velocity():
    clean, noise, coarse = torch.randn(3, 2, 6), torch.randn(3, 2, 6), torch.randn(3, 2, 6)
    torch.testing.assert_close(
        Residual().target(clean, noise, coarse).square().mean(), (clean - coarse).square().mean()
    )
    big_clean, big_noise = torch.randn(4000, 1, 6), torch.randn(4000, 1, 6)
    full = Full().target(big_clean, big_noise, big_clean).square().mean()
    assert float(full) == pytest.approx(1 + float(big_clean.square().mean()), abs=0.05)


@pytest.mark.parametrize("velocity", [Residual(), Full()], ids=["residual", "full"])
def test_guidance_of_weight_one_is_the_conditional_side_and_zero_the_other(velocity):
    made, noise = head(velocity, live=True), torch.randn(2, 3, 6)
    context, dummy = torch.randn(2, 3, 10), torch.randn(2, 3, 10)
    for decoding in (Flow(steps=4), Regression()):
        plain = decoding(made, context, None, 1.0, noise)
        torch.testing.assert_close(decoding(made, context, dummy, 1.0, noise), plain, atol=1e-5, rtol=1e-4)
        other = decoding(made, dummy, None, 1.0, noise)
        torch.testing.assert_close(decoding(made, context, dummy, 0.0, noise), other, atol=1e-5, rtol=1e-4)
        assert not torch.allclose(decoding(made, context, dummy, 3.0, noise), plain, atol=1e-2)


def test_guided_regression_is_the_weighted_sum():
    made, noise = head(), torch.zeros(2, 3, 6)
    context, dummy = torch.randn(2, 3, 10), torch.randn(2, 3, 10)
    expected = 3 * made.coarse(context) - 2 * made.coarse(dummy)
    torch.testing.assert_close(Regression()(made, context, dummy, 3.0, noise), expected)


def test_the_coarse_patch_learns_nothing_through_the_flow():
    made = head(live=True)
    context = torch.randn(2, 3, 10)
    coarse = made.coarse(context)
    made.output(torch.randn(2, 3, 6), torch.rand(2), context, coarse).square().mean().backward()
    assert made.coarse.weight.grad is None
    assert made.net.enter.weight.grad.abs().sum() > 0


def test_temperature_scales_the_starting_noise():
    made = head(Full())
    noise = torch.randn(2, 3, 6)
    torch.testing.assert_close(Flow(temperature=0.5)(made, torch.randn(2, 3, 10), None, 1.0, noise), 0.5 * noise)


def test_the_net_starts_at_zero_tells_times_apart_and_takes_one_time_an_item_or_a_vector():
    torch.manual_seed(0)
    net = FlowMLP(6, 4, 10, 16, 2)
    x, condition = torch.randn(2, 3, 6), torch.randn(2, 3, 10)
    assert torch.equal(net(x, torch.rand(2), condition), torch.zeros(2, 3, 4))
    for parameter in net.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape)
    t = torch.tensor([0.1, 0.9])
    torch.testing.assert_close(net(x, t, condition), net(x, t[:, None].expand(2, 3), condition))
    assert not torch.allclose(net(x, t, condition), net(x, t + 0.01, condition), atol=1e-3)
    assert not torch.allclose(net(x, t, condition), net(x, t, condition + 0.1), atol=1e-3)


def test_the_paper_s_head_has_152_million_weights():
    with torch.device("meta"):
        net = FlowMLP(128, 64, 1536, 1536, 12)
    assert abs(sum(parameter.numel() for parameter in net.parameters()) / 1e6 - 152) < 1
