"""Images to latents and back: what is normalised when, and what a folder keeps."""

from __future__ import annotations

import pytest
import torch

from detokenizers.checkpoint import load_tensors
from detokenizers.nn.edm import KarrasGrid
from detokenizers.pretrained.sd3 import SD3Config
from detokenizers.pretrained.spaces import PretrainedVAE, VAEConfig, build_vae, save_vae
from detokenizers.pretrained.vlm.feature_vlm import TappedVLM, View
from detokenizers.protocols import Grid
from detokenizers.vugen.autoencoder import Autoencoder
from detokenizers.vugen.decoders import LatentDecoder
from detokenizers.vugen.moments import Moments
from detokenizers.vugen.reducers import MLP, PCA, Identity
from detokenizers.vugen.targets import Latents, PackedLatents

from ..pretrained.tiny import tiny_vlm
from .tiny import AUTOENCODER, autoencoder, feature_vlm, pictures


def other_vlm() -> TappedVLM:
    janus = tiny_vlm(seed=1)
    return TappedVLM(janus.model, janus.form.ids, 0)


def conditions(built: Autoencoder) -> list[torch.Tensor]:
    """What the decoder's net is conditioned on, call by call."""
    kept: list[torch.Tensor] = []
    built.net.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[2]))
    return kept


def test_latents_are_normalised_once_and_the_decoder_gets_them_as_they_were_before():
    built = autoencoder(feature_vlm(), AUTOENCODER.vary(reducer=PCA(ratio=8)))
    seen = conditions(built)
    latents = built.encode(pictures())
    assert Moments.of(latents).mean.abs().max() < 1e-4
    assert (Moments.of(latents).variance - 1).abs().max() < 1e-2
    built.decode(latents, seeds=range(8))
    reduced = built.reducer(built.vlm.features(pictures()))
    assert torch.allclose(seen[0].flatten(2).mT, reduced, atol=1e-4)
    assert not torch.allclose(reduced, latents, atol=1e-2)


def test_latents_fill_the_grid_of_the_features():
    built = autoencoder(feature_vlm())
    assert (built.grid, built.channels, built.size) == (Grid(4, 4), 4, 16)
    assert built.encode(pictures()).shape == (8, 16, 4)
    moved = pictures()
    moved[0, :, 4:8, 8:12] += 0.5  # row 1, column 2
    change = (built.encode(moved) - built.encode(pictures()))[0].abs().sum(-1)
    assert int(change.argmax()) == 6


def test_an_image_depends_on_its_own_latents_and_seed_alone():
    built = autoencoder(feature_vlm())
    latents = built.encode(pictures())
    together = built.decode(latents, seeds=range(8))
    assert torch.allclose(built.decode(latents[3:4], seeds=[3]), together[3:4], atol=1e-5)
    assert not torch.allclose(built.decode(latents[3:4], seeds=[4]), together[3:4], atol=1e-2)
    assert not torch.equal(built.decode(latents, seeds=range(8), steps=1), together)


def test_a_cold_decoder_draws_one_image_of_its_latents():
    cold = autoencoder(feature_vlm(), AUTOENCODER.vary({"decoder.temperature": 0.0}))
    latents = cold.encode(pictures())
    assert torch.equal(cold.decode(latents, seeds=range(8)), cold.decode(latents, seeds=range(8, 16)))


@pytest.mark.parametrize("reducer", [MLP(ratio=8), PCA(ratio=8), Identity(), AUTOENCODER.reducer], ids=lambda r: r.kind)
def test_a_saved_autoencoder_is_the_same(reducer, tmp_path):
    vlm = feature_vlm()
    built = autoencoder(vlm, AUTOENCODER.vary(reducer=reducer))
    built.save(tmp_path)
    loaded = Autoencoder.load(tmp_path, vlm)
    latents = built.encode(pictures())
    assert torch.equal(loaded.encode(pictures()), latents)
    assert torch.equal(loaded.decode(latents, seeds=range(8)), built.decode(latents, seeds=range(8)))
    assert not any(weight.requires_grad for weight in loaded.parameters())
    assert (tmp_path / "decoder.yaml").read_text().startswith("kind: vugen_autoencoder\n")


def test_in_half_precision_only_the_decoders_net_is_halved(tmp_path):
    autoencoder(feature_vlm()).save(tmp_path, dtype=torch.float16)
    assert {x.dtype for x in load_tensors(tmp_path / "reducer.safetensors").values()} == {torch.float32}
    assert {x.dtype for x in load_tensors(tmp_path / "decoder.safetensors").values()} == {torch.float16}


def test_a_reducer_of_another_vlm_or_view_is_refused(tmp_path):
    autoencoder(feature_vlm()).save(tmp_path)
    with pytest.raises(ValueError, match=r"the reducer in .* was trained on another VLM"):
        Autoencoder.load(tmp_path, other_vlm())
    janus = tiny_vlm()
    with pytest.raises(ValueError, match="another VLM"):
        Autoencoder.load(tmp_path, TappedVLM(janus.model, janus.form.ids, 0, View(size=32)))


def test_its_fingerprint_follows_weights_statistics_and_settings():
    built = autoencoder(feature_vlm())
    before = built.fingerprint()
    assert autoencoder(feature_vlm()).fingerprint() == before
    built.norm.mean += 1
    assert built.fingerprint() != before
    assert autoencoder(feature_vlm(), AUTOENCODER.vary({"decoder.steps": 1})).fingerprint() != before


@pytest.fixture
def vae(tmp_path) -> PretrainedVAE:
    torch.manual_seed(0)
    save_vae(build_vae(VAEConfig(channels=4, block_channels=(8, 8), norm_groups=4)), tmp_path / "vae")
    return PretrainedVAE(name=str(tmp_path / "vae"))


def test_a_latent_decoder_draws_through_its_vae_and_takes_it_along(vae, tmp_path):
    decoder = LatentDecoder(space=vae, net=SD3Config(latent_size=8, layers=2, heads=2, head_dim=8), steps=2)
    vlm = feature_vlm()
    built = autoencoder(vlm, AUTOENCODER.vary(decoder=decoder))
    latents = built.encode(pictures())
    drawn = built.decode(latents, seeds=range(8))
    assert drawn.shape == (8, 3, 16, 16)
    assert isinstance(built.decoder.grid, KarrasGrid)
    built.save(tmp_path / "kept")
    loaded = Autoencoder.load(tmp_path / "kept", vlm)
    assert torch.equal(loaded.decode(latents, seeds=range(8)), drawn)
    assert loaded.config.decoder.space.name == "space"


def test_packed_latents_come_back_and_their_order_is_channel_row_column(vae):
    target = Latents(space=vae, size=16).build(feature_vlm())
    assert (target.grid, target.channels, target.size) == (Grid(4, 4), 16, 16)
    images = pictures()
    latents = target.encode(images)
    assert latents.shape == (8, 16, 16)
    space = target.space.encode(images)
    assert torch.equal(latents[0, 6].view(4, 2, 2), space[0, :, 2:4, 4:6])  # token 6 is row 1, column 2
    assert torch.allclose(target.decode(latents, seeds=range(8)), target.space.decode(space), atol=1e-6)


def test_images_that_tokens_do_not_tile_are_refused(vae):
    with pytest.raises(ValueError, match="images of 18 px do not divide into tokens of 4 px"):
        PackedLatents(vae.build(), 2, 18)
