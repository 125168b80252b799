"""KID and density/coverage against slow, literal references."""

import numpy as np
import pytest
import torch

from detokenizers.evaluation import prdc
from detokenizers.evaluation.kernel import discrepancy, kernel_distance
from detokenizers.evaluation.prdc import density_coverage


@pytest.fixture
def sets():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(70, 6, generator=generator), 0.8 * torch.randn(50, 6, generator=generator) + 0.3


def literal_mmd(x, y):
    def k(a, b):
        return (np.dot(a, b) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


def literal_density_coverage(real, drawn, k):
    to_real = np.linalg.norm(real[:, None] - real[None], axis=-1)
    to_drawn = np.linalg.norm(real[:, None] - drawn[None], axis=-1)
    radii = np.sort(to_real, axis=1)[:, k]
    inside = to_drawn < radii[:, None]
    return inside.sum(0) / k, inside.any(1)


def test_the_discrepancy_equals_its_definition(sets):
    x, y = (features.double() for features in sets)
    assert discrepancy(x, y).item() == pytest.approx(literal_mmd(x.numpy(), y.numpy()), rel=1e-10)


def test_one_full_subset_is_the_discrepancy_of_everything(sets):
    real, drawn = sets[0][:50], sets[1]
    value, spread = kernel_distance(real, drawn, num_subsets=3, subset_size=50)
    assert value == pytest.approx(discrepancy(real.double(), drawn.double()).item(), rel=1e-9)
    assert spread == pytest.approx(0, abs=1e-12)


def test_the_kernel_distance_of_one_distribution_is_near_zero_at_any_n():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 400, 6, generator=generator)
    value, spread = kernel_distance(x, y, num_subsets=20, subset_size=100)
    assert abs(value) < spread
    assert kernel_distance(x, y + 0.5, num_subsets=20, subset_size=100).value > 5 * spread


def test_the_seed_decides_the_subsets(sets):
    drawings = [kernel_distance(*sets, num_subsets=5, subset_size=20, seed=seed).value for seed in (0, 0, 1)]
    assert drawings[0] == drawings[1] != drawings[2]


def test_subsets_larger_than_a_set_are_refused(sets):
    with pytest.raises(ValueError, match="ask for 2 to 50"):
        kernel_distance(*sets)


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("block", [7, 1024])
def test_density_and_coverage_equal_brute_force_exactly(sets, k, block, monkeypatch):
    monkeypatch.setattr(prdc, "BLOCK", block)
    density, coverage = density_coverage(*sets, k)
    expected_density, expected_coverage = literal_density_coverage(
        sets[0].double().numpy(), sets[1].double().numpy(), k
    )
    np.testing.assert_array_equal(density.numpy(), expected_density)
    np.testing.assert_array_equal(coverage.numpy(), expected_coverage)


def test_an_image_on_the_surface_of_a_ball_is_outside_of_it():
    """In whole numbers, whose distances are exact. Around their mean, which is no whole number, they are not."""
    generator = torch.Generator().manual_seed(0)
    real, drawn = torch.randint(0, 6, (2, 30, 3), generator=generator)
    squares = (real[:, None] - torch.cat([real, drawn])).square().sum(-1)
    inside = squares[:, 30:] < squares[:, :30].sort(1).values[:, 2:3]
    assert (squares[:, 30:] == squares[:, :30].sort(1).values[:, 2:3]).sum() > 20, "many of them are ties"
    found = density_coverage(real.float(), drawn.float(), k=2)
    assert (2 * found.density).tolist() == inside.sum(0).tolist()
    assert found.coverage.bool().tolist() == inside.any(1).tolist()


def test_distances_that_fp32_cannot_tell_apart_are_ties_in_fp32_only():
    real = torch.tensor([[0.0, 0.0], [4096.0, 1.0]])
    nearer = torch.tensor([[-4096.0, 0.0]])
    assert density_coverage(real, nearer, k=1).coverage.tolist() == [0, 0]
    assert density_coverage(real.double(), nearer.double(), k=1).coverage.tolist() == [1, 0]


def test_copies_of_the_real_set_cover_it_and_far_images_neither_cover_nor_lie_within(sets):
    real, _ = sets
    assert density_coverage(real, real).coverage.all()
    far = density_coverage(real, real + 100)
    assert not far.density.any()
    assert not far.coverage.any()


def test_more_neighbours_than_images_are_refused(sets):
    with pytest.raises(ValueError, match="k goes from 1 to 69"):
        density_coverage(*sets, 70)
