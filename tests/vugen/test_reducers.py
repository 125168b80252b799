"""Reducers: what is computed before training, what is kept and lost, and statistics that are applied once."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from detokenizers.vugen.moments import Moments
from detokenizers.vugen.reducers import MLP, PCA, ChannelNorm, Identity, WhitenedMLP, moments_of, neighbouring_pixels

ALL = [MLP(ratio=4), WhitenedMLP(ratio=4), PCA(ratio=4), Identity()]


def pictures(count: int = 64) -> torch.Tensor:
    """4x4 patches of 2x2 pixels, each patch of one colour."""
    colours = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return F.interpolate(colours, scale_factor=2, mode="nearest")


def features(images: torch.Tensor, loud: float = 100.0) -> torch.Tensor:
    """Sixteen channels: three quiet ones know the colour, the others are loud and know nothing; all mixed."""
    generator = torch.Generator().manual_seed(len(images))
    colour = images[:, :, ::2, ::2].flatten(2).mT
    noise = loud * torch.randn(len(images), 16, 13, generator=generator)
    mix = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(1)))[0]
    return torch.cat([colour, noise], -1) @ mix + 3


def samples(size: int = 16):
    images = pictures(256)
    return list(zip(features(images).split(size), images.split(size)))


def readable(reduced: torch.Tensor, truth: torch.Tensor) -> float:
    """The share of the truth's variance that a linear map from the reduced features explains."""
    x = F.pad(reduced.flatten(0, 1), (0, 1), value=1.0).double()
    y = truth.flatten(0, 1).double()
    left = y - x @ torch.linalg.lstsq(x, y).solution
    return float(1 - left.var() / y.var())


@pytest.mark.parametrize("config", ALL, ids=lambda config: config.kind)
def test_every_reducer_treats_tokens_alike_and_one_by_one(config):
    torch.manual_seed(0)
    reducer = config.build(16)
    reducer.start(samples())
    x, order = torch.randn(2, 16, 16), torch.randperm(16)
    assert torch.allclose(reducer(x)[:, order], reducer(x[:, order]), atol=1e-5)
    assert reducer(x).shape == (2, 16, reducer.channels)
    assert reducer.channels == (16 if config.kind == "identity" else 4)


def test_the_papers_mlp_has_its_number_of_parameters():
    with torch.device("meta"):
        assert sum(p.numel() for p in MLP(ratio=16).build(1024).parameters()) == 1_115_200


def test_a_ratio_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match=r"ratio of 64.0 leaves nothing of 16 channels"):
        PCA(ratio=64).build(16)


def test_pca_rows_are_orthonormal_and_keep_the_largest_variances():
    reducer, moments = PCA(ratio=2).build(16), moments_of((x, None) for x, _ in samples())
    reducer.start(samples())
    assert torch.allclose(reducer.rows @ reducer.rows.T, torch.eye(8), atol=1e-6)
    kept = Moments.of(torch.cat([reducer(x) for x, _ in samples()])).variance.sum()
    largest = torch.linalg.eigvalsh(moments.covariance)[-8:].sum()
    assert float(kept / largest) == pytest.approx(1, rel=1e-5)
    assert not list(reducer.parameters())


def test_pca_at_ratio_one_loses_nothing():
    reducer, (x, _) = PCA(ratio=1).build(16), samples()[0]
    reducer.start(samples())
    assert torch.allclose(reducer(x) @ reducer.rows + reducer.mean, x, rtol=1e-4, atol=1e-3)


def test_pca_drops_quiet_colours_and_a_whitened_start_keeps_them():
    pca, whitened = PCA(ratio=4).build(16), WhitenedMLP(ratio=4).build(16)
    for reducer in (pca, whitened):
        reducer.start(samples())
    x, images = samples(256)[0]
    colours = images[:, :, ::2, ::2].flatten(2).mT
    assert readable(pca(x), colours) < 0.2
    assert readable(whitened(x), colours) > 0.95


def test_a_whitened_start_has_unit_variance_behind_both_of_its_first_layers():
    reducer, (x, _) = WhitenedMLP(ratio=4).build(16), samples(256)[0]
    reducer.start(samples())
    whitened = Moments.of(reducer.whiten(x).detach()).covariance
    # Directions far below the largest are held down by the floor: at 1e-6 of (100)² a variance of 1/3 loses 3 %.
    assert torch.allclose(whitened, torch.eye(16, dtype=torch.float64), atol=0.05)
    assert torch.allclose(Moments.of(reducer(x).detach()).variance, torch.ones(4, dtype=torch.float64), atol=0.05)


def test_reduced_rank_regression_reconstructs_at_least_as_well_as_any_other_linear_map():
    reducer, (x, images) = WhitenedMLP(ratio=8).build(16), samples(256)[0]
    reducer.start(samples())
    target = neighbouring_pixels(images, x)
    best = readable(reducer(x).detach(), target)
    for seed in range(5):
        other = torch.randn(16, 2, generator=torch.Generator().manual_seed(seed))
        assert readable(x @ other, target) < best


def test_neighbouring_pixels_are_the_patch_and_the_eight_around_it():
    images = pictures(2)
    found = neighbouring_pixels(images, torch.zeros(2, 16, 1)).view(2, 16, 3, 6, 6)
    assert torch.equal(found[0, 5], images[0, :, 0:6, 0:6])
    assert torch.equal(found[0, 0, :, :2], torch.zeros(3, 2, 6))


def test_the_joint_mlp_learns_what_pca_drops():
    torch.manual_seed(0)
    reducer, head = MLP(ratio=4).build(16), torch.nn.Linear(4, 3)
    images = pictures(256)
    x, truth = features(images, loud=2.0), images[:, :, ::2, ::2].flatten(2).mT
    optimizer = torch.optim.Adam([*reducer.parameters(), *head.parameters()], lr=1e-2)
    for _ in range(300):
        loss = (head(reducer(x)) - truth).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    pca = PCA(ratio=4).build(16)
    pca.start([(x, images)])
    assert readable(reducer(x).detach(), truth) > 0.9 > 0.3 > readable(pca(x), truth)


def test_statistics_of_parts_add_up_to_those_of_all():
    torch.manual_seed(0)
    x, y = 1e3 + torch.randn(300, 5), torch.randn(300, 2)
    whole, parts = Moments.of(x, y), moments_of(zip(x.split([1, 99, 200]), y.split([1, 99, 200])))
    for name in ("mean", "covariance", "target_mean", "cross"):
        assert torch.allclose(getattr(parts, name), getattr(whole, name), rtol=1e-12, atol=1e-12), name
    assert parts.count == 300
    assert torch.allclose(whole.covariance, torch.cov(x.double().T, correction=0), rtol=1e-9)


def test_no_images_have_no_statistics():
    with pytest.raises(ValueError, match="at least one batch"):
        moments_of([])
    with pytest.raises(ValueError, match="all features are equal"):
        Moments.of(torch.ones(4, 3)).directions()


def test_normalised_latents_have_mean_0_and_variance_1_on_other_images():
    torch.manual_seed(0)
    draw = lambda: 5 + torch.randn(4000, 1, 3) * torch.tensor([0.1, 1.0, 30.0])  # noqa: E731
    norm = ChannelNorm(3)
    norm.set(Moments.of(draw()))
    other = Moments.of(norm(draw()))
    assert other.mean.abs().max() < 0.05
    assert (other.variance - 1).abs().max() < 0.1
    x = draw()
    assert torch.allclose(norm.inverse(norm(x)), x, rtol=1e-5, atol=1e-5)


def test_without_statistics_normalising_changes_nothing():
    x = torch.randn(2, 4, 3)
    assert torch.allclose(ChannelNorm(3)(x), x, atol=1e-6)
    assert set(ChannelNorm(3).state_dict()) == {"mean", "variance"}
