"""Training times and sampling grids are FLUX's (spec F4)."""

import math

import pytest
import torch
from pydantic import TypeAdapter

from detokenizers.flow import FixedShift, FluxShift, LogitNormal, SquareRootShift, TimeGrid, TimeLaw, Uniform


def latents(tokens):
    """The shape of FLUX latents that make this many tokens."""
    return (16, 2 * 16, 2 * tokens // 16)


PROBED = [0, 1, 2, 14, 15, 28, 29, 30]


@pytest.mark.parametrize(("tokens", "mu"), [(256, 0.5), (576, 0.554166667), (1024, 0.63), (4096, 1.15)])
def test_the_shift_grows_with_the_number_of_tokens(tokens, mu):
    assert FluxShift()(latents(tokens)) == pytest.approx(mu, abs=1e-9)
    assert FluxShift(patch=1)((3, 16, tokens // 16)) == pytest.approx(mu, abs=1e-9)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (576, [1, 0.980573, 0.960579, 0.665455, 0.635102, 0.110574, 0.056619, 0]),
        (256, [1, 0.979514, 0.958475, 0.653290, 0.622459, 0.105358, 0.053794, 0]),
    ],
)
def test_thirty_steps_match_the_golden_schedule(tokens, expected):
    grid = TimeGrid()(30, latents(tokens))
    torch.testing.assert_close(grid[PROBED], torch.tensor(expected, dtype=torch.float32), atol=1e-6, rtol=0)


def test_the_grid_is_the_flow_match_euler_scheduler_of_diffusers():
    import numpy as np
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 7, 7), mu=FluxShift()(latents(64)))
    torch.testing.assert_close(TimeGrid()(7, latents(64)), scheduler.sigmas, atol=1e-6, rtol=0)


def test_one_step_goes_from_noise_to_clean_at_once():
    assert TimeGrid(shift=FixedShift(mu=0.7))(1, ()).tolist() == [1.0, 0.0]


def test_without_a_shift_the_steps_are_even():
    assert TimeGrid(shift=FixedShift())(4, ()).tolist() == [1, 0.75, 0.5, 0.25, 0]


def test_no_steps_is_an_error():
    with pytest.raises(ValueError, match="steps=0"):
        TimeGrid()(0, latents(64))


def test_the_square_root_shift_is_a_factor_on_the_odds_of_noise():
    """RAE: t' = α t / (1 + (α - 1) t) with α = sqrt(m / 4096)."""
    shape, t, alpha = (64, 256), 0.3, math.sqrt(64 * 256 / 4096)
    assert SquareRootShift()(shape) == pytest.approx(math.log(alpha))
    shifted = TimeGrid(shift=SquareRootShift())(10, shape)[7].item()
    assert shifted == pytest.approx(alpha * t / (1 + (alpha - 1) * t), abs=1e-6)


@pytest.mark.parametrize(("numbers", "alpha"), [(16384, 2), (65536, 4), (196608, 6.928203), (262144, 8), (1024, 1)])
def test_the_square_root_shift_has_the_factors_of_the_spec(numbers, alpha):
    assert math.exp(SquareRootShift()((numbers // 64, 64))) == pytest.approx(alpha, abs=1e-6)


def test_at_a_factor_of_two_times_and_their_law_are_those_of_the_spec():
    import numpy as np
    from diffusers import FlowMatchEulerDiscreteScheduler

    two, tenths = FixedShift(mu=math.log(2)), TimeGrid(shift=FixedShift(mu=math.log(2)))(10, ())
    assert tenths[[9, 5, 1]].tolist() == pytest.approx([0.181818, 0.666667, 0.947368], abs=1e-6)
    quarters = TimeGrid(shift=two)(4, ())
    assert quarters.tolist() == pytest.approx([1, 0.857143, 0.666667, 0.4, 0], abs=1e-6)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=2)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 4, 4))  # without these it would shift twice
    torch.testing.assert_close(quarters, scheduler.sigmas, atol=1e-6, rtol=0)
    times = LogitNormal(shift=two)(1_000_001, (), generator=torch.Generator().manual_seed(0))
    assert times.median().item() == pytest.approx(2 / 3, abs=2e-3)
    assert times.mean().item() == pytest.approx(0.6397, abs=1e-3)


def test_a_power_puts_more_steps_near_clean():
    assert TimeGrid(shift=FixedShift(), power=2.0)(4, ()).tolist() == [1, 0.5625, 0.25, 0.0625, 0]


def test_a_law_of_before_shifts_were_parts_is_read():
    read = TypeAdapter(TimeLaw).validate_python
    assert read({"kind": "logit_normal", "shift": None, "std": 1.0}) == LogitNormal()
    assert read({"kind": "logit_normal", "shift": 0.3}) == LogitNormal(shift=FixedShift(mu=0.3))


def test_the_logit_normal_median_is_the_shifted_half():
    times = LogitNormal()(20001, latents(576), generator=torch.Generator().manual_seed(0))
    half = 1 / (1 + math.exp(-FluxShift()(latents(576))))
    assert times.median().item() == pytest.approx(half, abs=0.01)
    assert times.logit().std().item() == pytest.approx(1, abs=0.02)
    centred = LogitNormal(shift=FixedShift(), std=0.5)(20001, latents(576), generator=torch.Generator().manual_seed(0))
    assert centred.median().item() == pytest.approx(0.5, abs=0.01)
    assert centred.logit().std().item() == pytest.approx(0.5, abs=0.01)


def test_uniform_times_fill_the_interval_evenly():
    times = Uniform()(4000, (16, 16, 16), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.histc(times, 4, 0, 1) / 4000, torch.full((4,), 0.25), atol=0.03, rtol=0)


@pytest.mark.parametrize("law", [LogitNormal(), Uniform()])
def test_times_follow_the_generator_they_are_drawn_with(law):
    first, again, other = (law(5, latents(64), generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("law", [LogitNormal(shift=SquareRootShift(base=64), std=0.8), Uniform()])
def test_a_law_survives_its_own_settings_file(law):
    assert TypeAdapter(TimeLaw).validate_python(law.model_dump(mode="json")) == law
