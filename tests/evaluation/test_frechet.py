"""The Fréchet distance against scipy's matrix square root and against closed forms."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from detokenizers.evaluation.frechet import frechet
from detokenizers.evaluation.moments import Moments


def moments(n, f, shift=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(f, f, generator=generator) / f**0.5
    return Moments.of(shift + torch.randn(n, f, generator=generator) @ mixing)


@pytest.mark.parametrize("f", [3, 16, 48])
def test_the_distance_equals_scipys(f):
    a, b = moments(300, f), moments(400, f, shift=0.2, seed=1)
    root = sqrtm(a.covariance().numpy() @ b.covariance().numpy())
    expected = (a.mean - b.mean).square().sum() + a.covariance().trace() + b.covariance().trace()
    assert frechet(a, b) == pytest.approx(expected.item() - 2 * np.trace(root).real, rel=1e-6)


def test_scaling_a_set_by_s_costs_s_minus_one_squared_of_its_variance():
    features = torch.randn(200, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    features -= features.mean(0)
    a, b = Moments.of(features), Moments.of(3 * features)
    assert frechet(a, b) == pytest.approx(4 * a.covariance().trace().item(), rel=1e-9)


def test_the_distance_to_itself_is_zero_and_order_does_not_matter():
    a, b = moments(300, 12), moments(300, 12, shift=0.5, seed=2)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet(a, b) == pytest.approx(frechet(b, a), rel=1e-9)


def test_fewer_images_than_features_is_exact_too():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(9, 40, generator=generator, dtype=torch.float64) for _ in range(2))
    a, b = Moments.of(x), Moments.of(y)
    overlap = torch.linalg.matrix_norm((x - x.mean(0)) @ (y - y.mean(0)).T / 8, "nuc")
    expected = (a.mean - b.mean).square().sum() + a.covariance().trace() + b.covariance().trace() - 2 * overlap
    assert frechet(a, b) == pytest.approx(expected.item(), rel=1e-9)


def test_an_empty_side_is_refused():
    with pytest.raises(ValueError, match="one side has none"):
        frechet(moments(10, 3), Moments(""))
