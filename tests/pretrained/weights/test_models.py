"""Models of transformers and diffusers come whole out of their folder, or not at all; names lead to one folder each."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import T5Config, T5EncoderModel

from detokenizers.checkpoint import load_tensors, save_tensors
from detokenizers.digests import sha256_of
from detokenizers.pretrained.flux.transformer import FluxConfig, NoText, PretrainedFlux
from detokenizers.pretrained.networks.mask2former import Mask2Former
from detokenizers.pretrained.spaces import VAE, VAEConfig, build_vae, save_vae
from detokenizers.pretrained.vlm.janus import JanusVLM
from detokenizers.pretrained.vlm.loading import load_tokenizer
from detokenizers.pretrained.vlm.t5_captions import T5Captions
from detokenizers.pretrained.weights.models import source_of
from tests.pretrained.judges import save_detector
from tests.pretrained.tiny import tiny_janus, tiny_tokenizer

FLUX = FluxConfig(
    layers=1, single_layers=1, heads=1, head_dim=16, axes=(4, 4, 8), text_dim=8, pooled_dim=8, latent_channels=4,
    stride=2,
)  # fmt: skip


def janus(folder: Path) -> None:
    tiny_janus().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)


def vae(folder: Path) -> None:
    save_vae(build_vae(VAEConfig(channels=4, block_channels=(8, 8), norm_groups=4)), folder)


def flux(folder: Path) -> None:
    net = FLUX.build(4, lambda images: images)
    net.transformer.x_embedder = net.transformer.x_embedder.base
    net.transformer.save_pretrained(folder / "transformer")


def t5(folder: Path) -> None:
    config = T5Config(vocab_size=32, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    T5EncoderModel(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)


KINDS = {
    "Janus": (janus, JanusVLM.from_pretrained, "model.generation_head.vision_head.weight"),
    "tokenizer of a Janus": (janus, load_tokenizer, "model.vqmodel.quant_conv.weight"),
    "VAE": (vae, VAE.from_pretrained, "decoder.conv_out.weight"),
    "FLUX": (
        flux,
        lambda folder: PretrainedFlux(name=str(folder), dtype="float32", text=NoText()).build(4, lambda x: x),
        "proj_out.weight",
    ),
    "T5": (t5, T5Captions.from_pretrained, "encoder.final_layer_norm.weight"),
    "Mask2Former": (save_detector, Mask2Former.load, "class_predictor.weight"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["none", "missing", "shape", "not finite", "cut off"])
def test_every_weight_must_be_there_fit_and_be_finite(kind, damage, tmp_path):
    write, load, name = KINDS[kind]
    write(tmp_path)
    (path,) = tmp_path.rglob("*.safetensors")
    tensors = load_tensors(path)
    short = name.removeprefix("model.vqmodel.")
    if damage == "none":
        load(tmp_path)
        return
    if damage == "missing":
        clue = f"does not fit a .*missing {short}"
        del tensors[name]
    elif damage == "shape":
        # diffusers calls it an error of its own, the house names both shapes
        clue = rf"(does not fit a|because) .*{short}"
        tensors[name] = torch.zeros(3, *tensors[name].shape)
    elif damage == "not finite":
        clue = f"'{short}' holds NaN or infinity"
        tensors[name][0] = float("nan")
    else:
        clue = "cannot be loaded as a|not a readable safetensors file"
    save_tensors(path, tensors)
    if damage == "cut off":
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=clue) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_identity_of_a_model_is_the_hash_of_its_weights_however_many_files_they_are(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model-1.safetensors").write_bytes(b"one")
    one = source_of(tmp_path)
    assert one.folder == tmp_path
    assert one.identity == f"{tmp_path.name}@sha256:{sha256_of(tmp_path / 'model-1.safetensors')}"
    (tmp_path / "model-2.safetensors").write_bytes(b"two")
    both = source_of(tmp_path).identity
    (tmp_path / "model-2.safetensors").write_bytes(b"three")
    assert len({one.identity, both, source_of(tmp_path).identity}) == 3
