"""The latent spaces keep the `ImageSpace` promise and DCDD's Eq. 17."""

from copy import deepcopy

import pytest
import torch
from diffusers import AutoencoderKL

from detokenizers.pretrained.spaces import VAE, Pixels, VAEConfig, build_vae, save_vae, set_statistics
from detokenizers.protocols import ImageSpace
from tests.pictures import FLAT_AND_TEXTURED
from tests.pretrained.tiny import spread_norms

TINY = VAEConfig(channels=4, block_channels=(8, 8, 8), norm_groups=4)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def autoencoder() -> AutoencoderKL:
    torch.manual_seed(0)
    return build_vae(TINY)


def test_pixels_are_their_own_latents(images):
    space = Pixels()
    assert isinstance(space, ImageSpace)
    torch.testing.assert_close(space.decode(space.encode(images)), images)
    assert space.decode(3 * images).abs().max() == 1


@pytest.mark.parametrize(("levels", "stride"), [(3, 4), (4, 8)])
def test_every_level_but_the_last_halves_the_image(levels, stride):
    config = TINY.vary(block_channels=(8,) * levels)
    space = VAE(build_vae(config))
    assert isinstance(space, ImageSpace)
    assert (space.stride, config.stride) == (stride, stride)
    latents = space.encode(torch.zeros(1, 3, 32, 16))
    assert latents.shape == (1, 4, 32 // stride, 16 // stride)
    assert space.decode(latents).shape == (1, 3, 32, 16)


@pytest.mark.parametrize("size", [32, 128])
@pytest.mark.parametrize("picture", FLAT_AND_TEXTURED, ids=FLAT_AND_TEXTURED.keys())
def test_latents_and_pictures_are_those_of_diffusers_flat_or_textured(picture, size):
    theirs = spread_norms(build_vae(VAEConfig(channels=8, block_channels=(32, 64, 64, 64), mid_attention=True)))
    space, images = VAE(deepcopy(theirs)), FLAT_AND_TEXTURED[picture](size)
    with torch.no_grad():
        latents = theirs.eval().encode(images).latent_dist.mean
        drawn = theirs.decode(latents).sample.clamp(-1, 1)
        flat = theirs.decode(torch.full_like(latents, 0.3)).sample.clamp(-1, 1)
    torch.testing.assert_close(space.encode(images), latents, atol=1e-4, rtol=0)
    torch.testing.assert_close(space.decode(latents), drawn, atol=1e-4, rtol=0)
    torch.testing.assert_close(space.decode(torch.full_like(latents, 0.3)), flat, atol=1e-4, rtol=0)


def test_mid_attention_and_wide_latents_build():
    space = VAE(build_vae(TINY.vary(channels=16, mid_attention=True)))
    assert space.encode(torch.zeros(1, 3, 16, 16)).shape == (1, 16, 4, 4)


def test_encoding_is_shifted_then_scaled_as_in_eq_17(autoencoder, images):
    raw = autoencoder.encode(images).latent_dist.mode()
    set_statistics(autoencoder, mean=0.1159, std=1 / 0.3611)
    space = VAE(autoencoder)
    torch.testing.assert_close(space.encode(images), (raw - 0.1159) * 0.3611, atol=1e-5, rtol=1e-5)


def test_decoding_undoes_shift_and_scale(autoencoder, images):
    space = VAE(autoencoder)
    plain = space.decode(space.encode(images))
    set_statistics(autoencoder, mean=-0.7, std=2.5)
    torch.testing.assert_close(space.decode(space.encode(images)), plain, atol=1e-5, rtol=1e-4)


def test_measured_statistics_standardise_the_latents(autoencoder, images):
    space = VAE(autoencoder)
    raw = space.encode(images)
    set_statistics(autoencoder, mean=raw.mean().item(), std=raw.std().item())
    latents = space.encode(images)
    assert latents.mean().abs() < 1e-5
    assert (latents.std() - 1).abs() < 1e-5


def test_noise_draws_a_sample_around_the_mode(autoencoder, images):
    space = VAE(autoencoder)
    mode = space.encode(images)
    torch.testing.assert_close(space.encode(images, torch.zeros_like(mode)), mode)
    std = autoencoder.encode(images).latent_dist.std
    torch.testing.assert_close(space.encode(images, torch.ones_like(mode)) - mode, std, atol=1e-5, rtol=1e-4)


def test_the_posterior_is_in_the_latents_units_and_raw_where_a_kl_divergence_wants_it(autoencoder, images):
    set_statistics(autoencoder, mean=0.25, std=2.0)
    space, theirs = VAE(autoencoder), autoencoder.encode(images).latent_dist
    mean, std = space.posterior(images)
    torch.testing.assert_close(mean, space.encode(images), atol=0, rtol=0)
    torch.testing.assert_close(std, space.encode(images, torch.ones_like(mean)) - mean, atol=1e-5, rtol=1e-4)
    mean, std = space.posterior(images, raw=True)
    torch.testing.assert_close((mean, std), (theirs.mean, theirs.std), atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match=r"multiples of 4, got 18x16"):
        space.posterior(torch.zeros(1, 3, 18, 16))


def test_a_spaces_fingerprint_changes_with_its_weights_and_its_scale(autoencoder):
    space = VAE(autoencoder)
    found = [Pixels().fingerprint(), space.fingerprint()]
    set_statistics(autoencoder, mean=0.0, std=2.0)
    found.append(space.fingerprint())
    next(autoencoder.parameters()).data.add_(1)
    found.append(space.fingerprint())
    assert space.fingerprint() == found[-1]
    assert len(set(found)) == 4


def test_a_saved_autoencoder_comes_back_equal_statistics_included(autoencoder, images, tmp_path):
    set_statistics(autoencoder, mean=0.25, std=2.0)
    space = VAE(autoencoder)
    save_vae(autoencoder, tmp_path / "vae")
    again = VAE.from_pretrained(tmp_path, subfolder="vae")
    assert (again.shift, again.scale) == (0.25, 0.5)
    weights = space.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in again.state_dict().items())
    torch.testing.assert_close(again.encode(images), space.encode(images), atol=1e-5, rtol=0)
    save_vae(again.autoencoder, tmp_path / "copy")
    assert (tmp_path / "copy" / "config.json").read_bytes() == (tmp_path / "vae" / "config.json").read_bytes()


def test_a_wrapped_autoencoder_is_frozen_for_good(autoencoder):
    space = VAE(autoencoder).train()
    assert not any(parameter.requires_grad for parameter in space.parameters())
    assert not space.autoencoder.training


def test_sizes_and_settings_that_do_not_fit_are_named(autoencoder, tmp_path):
    with pytest.raises(ValueError, match=r"multiples of 4, got 18x16"):
        VAE(autoencoder).encode(torch.zeros(1, 3, 18, 16))
    with pytest.raises(ValueError, match=r"norm_groups=3 does not divide"):
        build_vae(TINY.vary(norm_groups=3))
    with pytest.raises(ValueError, match="must be positive"):
        set_statistics(autoencoder, mean=0.0, std=0.0)
    with pytest.raises(ValueError, match=r"there is no folder '.+nowhere'"):
        VAE.from_pretrained(tmp_path / "nowhere")
