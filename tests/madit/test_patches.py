"""Patches and tokens on one plane, and the KL divergence of a patch."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from detokenizers.madit.patches import Layout, Posterior, latent_kl, patch_kl, patchify, posterior, unpatchify
from detokenizers.nn.sincos import sincos_grid, sincos_line
from detokenizers.pretrained.spaces import VAE, Pixels
from detokenizers.protocols import Grid

from . import tiny


class UnitSpace:
    """Normalised latents are the raw ones."""

    channels, stride = 1, 1


def test_patches_are_the_squares_of_latents_in_raster_order_and_can_be_laid_back():
    latents = torch.arange(2 * 3 * 4 * 6.0).view(2, 3, 4, 6)
    patches = patchify(latents, 2)
    assert patches.shape == (2, 6, 12)
    torch.testing.assert_close(patches[:, 4], latents[:, :, 2:4, 2:4].flatten(1))
    torch.testing.assert_close(unpatchify(patches, Grid(2, 3), 2), latents)
    # The published order, written out: reshape, then permute.
    written = latents.reshape(2, 3, 2, 2, 3, 2).permute(0, 2, 4, 1, 3, 5).reshape(2, 6, 12)
    torch.testing.assert_close(patches, written)


def test_every_patch_lies_under_the_token_that_covers_it():
    layout = Layout(Grid(4, 6), 2)
    assert layout.tokens == Grid(2, 3)
    assert layout.cell.view(4, 6).tolist() == [[0, 0, 1, 1, 2, 2]] * 2 + [[3, 3, 4, 4, 5, 5]] * 2
    assert layout.part.view(4, 6)[:2, :2].tolist() == [[0, 1], [2, 3]]
    numbers = torch.arange(24.0).view(1, 24, 1)
    by_token = layout.by_token(numbers)
    assert by_token[0, 4, :, 0].tolist() == [14, 15, 20, 21]
    torch.testing.assert_close(layout.by_patch(by_token), numbers)
    with pytest.raises(ValueError, match="3x3 patches do not tile"):
        Layout(Grid(4, 6), 3)


@pytest.mark.parametrize(
    ("mean", "log_variance", "nats"),
    [(0.0, 0.0, 0.0), (1.0, 0.0, 0.5), (0.0, -2.0, 0.5676676), (2.0, 1.0, 2.3591409)],
)
def test_nats_of_known_gaussians(mean, log_variance, nats):
    seen = Posterior(torch.full((1, 1, 1, 1), mean), torch.full((1, 1, 1, 1), log_variance / 2).exp())
    assert float(latent_kl(UnitSpace(), seen)) == pytest.approx(nats, abs=1e-6)


def test_patch_kl_is_the_closed_form_summed_over_a_patch_in_the_order_of_patchify():
    torch.manual_seed(0)
    mean, std = torch.randn(2, 3, 4, 6), torch.rand(2, 3, 4, 6) + 0.01
    every = kl_divergence(Normal(mean, std), Normal(torch.zeros(()), torch.ones(())))
    kl = patch_kl(latent_kl(UnitSpace(), Posterior(mean, std)), 2)
    torch.testing.assert_close(kl, patchify(every, 2).sum(-1))
    torch.testing.assert_close(kl.sum(1), every.sum((1, 2, 3)))
    assert (kl >= 0).all()


def test_the_kl_is_of_the_raw_moments_as_diffusers_has_them(vae):
    space, images = VAE.from_pretrained(vae), tiny.images(3)
    with torch.no_grad():
        raw = space.autoencoder.encode(images).latent_dist
    seen = posterior(space, images)
    torch.testing.assert_close(seen.mean / space.scale + space.shift, raw.mean, atol=1e-5, rtol=1e-4)
    cells = latent_kl(space, seen)
    torch.testing.assert_close(cells.sum((1, 2)), raw.kl(), rtol=1e-4, atol=1e-3)


def test_an_autoencoder_without_posterior_is_refused():
    with pytest.raises(ValueError, match="a Pixels has no posterior"):
        posterior(Pixels(), tiny.images(1))


def test_positions_of_a_coarse_grid_lie_amid_those_of_a_fine_one():
    fine, coarse = sincos_grid(Grid(4, 4), 16), sincos_grid(Grid(2, 2), 16, spacing=2.0)
    assert fine.shape == (16, 16)
    torch.testing.assert_close(fine[0, [0, 1, 2, 3, 8, 9]], torch.zeros(6))
    rows, columns = sincos_line(torch.tensor([2.5]), 8), sincos_line(torch.tensor([0.5]), 8)
    torch.testing.assert_close(coarse[2:3], torch.cat([rows, columns], -1))
    nearest = torch.cdist(coarse, fine).topk(4, largest=False).indices.sort().values
    assert nearest.tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    assert len(torch.unique(fine, dim=0)) == 16
    with pytest.raises(ValueError, match="even width"):
        sincos_line(torch.zeros(1), 3)
