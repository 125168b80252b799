"""A whole embedded stack of tiny random models, in `mini/PART` folders as the package carries the trained one."""

from __future__ import annotations

from pathlib import Path

import torch

from detokenizers.checkpoint import fingerprint, save_tensors, write_text
from detokenizers.data.world.objects import COLOURS
from detokenizers.data.world.world import World, WorldConfig
from detokenizers.dcdd.calibration import Calibration
from detokenizers.dcdd.condition import CondConfig
from detokenizers.dcdd.model import DCDDConfig
from detokenizers.mini.runs import WorldNetRun
from detokenizers.nn.world_net import WorldNet, WorldNetConfig
from detokenizers.pretrained.flux.transformer import FluxConfig
from detokenizers.pretrained.spaces import PretrainedVAE, VAEConfig, build_vae, save_vae
from detokenizers.pretrained.vlm.janus_size import JanusSize, build_janus
from detokenizers.pretrained.vlm.word_tokenizer import word_tokenizer
from detokenizers.pretrained.vq import JanusVQ

PIXELS = 16
WORLD = World(WorldConfig(resolution=PIXELS))
JANUS = JanusSize(
    hidden=32, layers=2, heads=2, vocabulary=0, max_positions=128,
    image_size=PIXELS, grid=4, codebook=64, vq_channels=32, vq_multipliers=(1, 1, 1), vq_blocks=1, vq_latent=32,
    vision_hidden=32, vision_layers=1, vision_heads=2,
)  # fmt: skip
FLUX = FluxConfig(
    layers=1, single_layers=1, heads=2, head_dim=16, axes=(4, 4, 8), text_dim=32, pooled_dim=32,
    latent_channels=4, stride=2,
)  # fmt: skip


def build(mini: Path) -> None:
    """Write world_net, vlm, vae and dcdd into `mini`."""
    torch.manual_seed(0)
    vq = build_vlm(mini / "vlm", JANUS)
    vae = build_vae(VAEConfig(channels=4, block_channels=(8, 8), norm_groups=4))
    save_vae(vae, mini / "vae")
    net = WorldNet(
        WorldNetConfig(
            nouns=len(WORLD.nouns),
            colours=len(COLOURS),
            backgrounds=len(WORLD.backgrounds),
            resolution=PIXELS,
            widths=(8, 16),
        )
    )
    save_tensors(mini / "world_net" / "world_net.safetensors", net.state_dict())
    write_text(mini / "world_net" / "world_net.yaml", net.config.to_yaml())
    write_text(mini / "world_net" / "run.yaml", WorldNetRun(recipe="mini.world_net", world=WORLD.config).to_yaml())
    build_dcdd(mini / "dcdd", mini / "vae", vq.codebook)


def build_vlm(folder: Path, size: JanusSize) -> JanusVQ:
    """A Janus in transformers' format; returns its tokenizer."""
    words = word_tokenizer(WORLD.vocabulary)
    model = build_janus(size.vary(vocabulary=len(words)), words).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and "vision_model" not in name:
                weight.normal_(0, 1.5 * weight.shape[1] ** -0.5)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return JanusVQ(model.model.vqmodel)


def build_dcdd(folder: Path, vae: Path, codebook: torch.Tensor) -> str:
    """A decoder that reads these codes; returns the fingerprint of its weights."""
    config = DCDDConfig(
        calibration=Calibration(kappa=20.0),
        condition=CondConfig(width=8, groups=4),
        net=FLUX,
        space=PretrainedVAE(name=str(vae)),
        token_stride=PIXELS // 4,
    )
    dcdd = config.build(codebook)
    with torch.no_grad():  # beyond the zero start, so that conditions are visible
        for weight in dcdd.decoder.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    dcdd.save(folder)
    return fingerprint(dcdd.learned())
