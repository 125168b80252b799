"""Intervals: they hold the truth as often as they say, and pairs are paired."""

import numpy as np
import pytest
import torch

from detokenizers.evaluation.bootstrap import centred, frechet_resamples, indices, interval, interval_of, wilson
from detokenizers.evaluation.frechet import frechet
from detokenizers.evaluation.moments import Moments


def test_a_mean_interval_has_the_width_that_theory_gives():
    values = torch.randn(400, generator=torch.Generator().manual_seed(0))
    low, high = interval(values, num_resamples=2000)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std().item() / 20, rel=0.1)


def test_mean_intervals_hold_the_truth_about_as_often_as_they_say():
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for trial in range(150):
        low, high = interval(torch.randn(60, generator=generator), num_resamples=200, seed=trial)
        hits += low <= 0 <= high
    assert 0.88 <= hits / 150 <= 0.99


def test_the_same_seed_gives_the_same_interval():
    values = torch.rand(50, generator=torch.Generator().manual_seed(0))
    assert interval(values, seed=3) == interval(values, seed=3) != interval(values, seed=4)


def test_pairing_sees_a_difference_that_two_intervals_hide():
    hard = torch.randn(200, generator=torch.Generator().manual_seed(0)) * 5
    better = hard + 0.2 + 0.1 * torch.randn(200, generator=torch.Generator().manual_seed(1))
    assert interval(better).low < interval(hard).high
    assert interval(better - hard).low > 0.15


def test_any_statistic_can_be_resampled():
    a, b = np.arange(1.0, 41), np.full(40, 2.0)
    low, high = interval_of(lambda rows: a[rows].mean() / b[rows].mean(), 40)
    assert low < a.mean() / 2 < high


def test_frechet_intervals_surround_the_measured_value():
    generator = torch.Generator().manual_seed(0)
    real, drawn = torch.randn(300, 6, generator=generator), 0.7 * torch.randn(200, 6, generator=generator)
    reference = Moments.of(real)
    value = frechet(Moments.of(drawn), reference)
    resamples = frechet_resamples(drawn, reference, num_resamples=50)
    low, high = centred(resamples, value)
    assert 0 < low < value < high
    assert resamples.mean() > value  # the bias that centring removes


@pytest.mark.parametrize(("width", "close"), [(5, 1e-9), (100, 1e-7)])
def test_a_resample_is_what_frechet_says_of_the_repeated_rows(width, close):
    generator = torch.Generator().manual_seed(0)
    real, drawn = torch.randn(2, 40, width, generator=generator)
    rows = next(indices(40, 1, seed=7))
    paired = frechet_resamples(drawn, real, num_resamples=1, seed=7).item()
    assert paired == pytest.approx(frechet(Moments.of(drawn[rows]), Moments.of(real[rows])), rel=close)
    fixed = frechet_resamples(drawn, Moments.of(real), num_resamples=1, seed=7).item()
    assert fixed == pytest.approx(frechet(Moments.of(drawn[rows]), Moments.of(real)), rel=close)


def test_pairs_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="4 images cannot be paired with 5"):
        frechet_resamples(torch.randn(4, 2), torch.randn(5, 2))


@pytest.mark.parametrize(
    ("right", "n", "low", "high"), [(0, 10, 0, 0.27753), (10, 10, 0.72247, 1), (7, 20, 0.18119, 0.56715)]
)
def test_the_interval_of_a_share_is_wilsons(right, n, low, high):
    z = 1.959964
    share, room = right / n, z * z / n
    middle, half = (share + room / 2) / (1 + room), z * np.sqrt(share * (1 - share) / n + room / (4 * n)) / (1 + room)
    assert wilson(right, n) == pytest.approx((middle - half, middle + half), abs=1e-6)
    assert wilson(right, n) == pytest.approx((low, high), abs=1e-5)


def test_one_image_has_no_interval():
    with pytest.raises(ValueError, match="at least two"):
        interval(torch.ones(1))
