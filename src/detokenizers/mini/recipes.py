"""The recipes of the embedded stack, in the order they are trained (`runs/mini_cpu.sh` runs them all).

Each docstring: what it makes, how long it takes on two shared CPU cores, what it should reach.
"""

from __future__ import annotations

from ..data.world.world import WorldConfig
from ..pretrained.spaces import VAEConfig
from ..pretrained.vlm.janus_size import JanusSize
from ..training import TrainConfig
from ..training.optimizers import Muon
from ..training.schedules import Trapezoid
from .runs import AutoencoderRun, TokenizerRun, VLMRun, WorldNetRun

SIZE = JanusSize(
    hidden=192,
    layers=6,
    heads=6,
    intermediate=512,
    vocabulary=0,
    image_size=64,
    grid=8,
    codebook=1024,
    vq_channels=64,
    vq_multipliers=(1, 1, 1, 1),
    vq_blocks=0,
    vq_latent=64,
    vision_hidden=128,
    vision_layers=3,
    vision_heads=4,
)
"""`JanusForConditionalGeneration` at 64 px: 8x8 tokens of 1,024 codes; the world's words make the vocabulary.

GroupNorm has 32 groups in every `JanusVQVAE`; with 64 channels a group is two, with 32 it would be an instance norm,
which erases each channel's mean and with it the colours (docs/log.md)."""


def world_net() -> WorldNetRun:
    """The judge: counts, colours, positions and backgrounds of the embedded world. About 12 minutes on one core."""
    return WorldNetRun(recipe="mini.world_net", train=TrainConfig(steps=2000, batch_size=32, lr=2e-3))


def tokenizer() -> TokenizerRun:
    """The VLM's VQ tokenizer (stride 8, 1,024 x 8, unit norm). About 17 minutes on one core."""
    return TokenizerRun(
        recipe="mini.tokenizer", size=SIZE, train=TrainConfig(steps=1800, batch_size=8, lr=1.5e-3, ema_decay=0.99)
    )


def tokenizer_decoder() -> TokenizerRun:
    """More time for the VQ decoder alone; every token keeps its meaning. About 48 minutes on one core.

    It keeps the baseline honest without touching a VLM that was trained on these tokens.
    """
    return tokenizer().vary(
        {"recipe": "mini.tokenizer_decoder", "keep_codes": "mini/vlm", "train.steps": 5000, "train.lr": 1e-3}
    )


def autoencoder() -> AutoencoderRun:
    """The latent space (stride 4, 8 channels: packed 2x2 its tokens share the VQ grid). 20 minutes on one core."""
    return AutoencoderRun(
        recipe="mini.autoencoder",
        vae=VAEConfig(channels=8, block_channels=(16, 32, 64), norm_groups=8),
        train=TrainConfig(steps=3600, batch_size=8, lr=1.5e-3, ema_decay=0.99),
    )


def autoencoder_decoder() -> AutoencoderRun:
    """More time and a perceptual loss for the way back to pixels, as `tokenizer_decoder` gives the baseline.

    Every latent keeps its meaning. About 40 minutes on one core; 31.1 -> 34.1 dB PSNR.
    """
    return autoencoder().vary(
        {
            "recipe": "mini.autoencoder_decoder",
            "keep_latents": "mini/vae",
            "perceptual": 0.25,
            "train.steps": 6000,
            "train.lr": 1e-3,
        }
    )


def vlm() -> VLMRun:
    """The VLM itself, both ways: caption -> tokens and image -> caption. About three hours on one core.

    Its scenes have single objects less often than the world's default, of which there are few and which it learns by
    heart, and two objects and two colours more often (docs/log.md).
    """
    return VLMRun(
        recipe="mini.vlm",
        world=WorldConfig(
            shares=dict(single=0.08, tail=0.16, colour=0.12, two=0.22, position=0.22, counting=0.14, attribution=0.22)
        ),
        size=SIZE,
        scenes=131_072,
        describe=0.25,
        describe_weight=0.5,
        train=TrainConfig(
            steps=16_000, batch_size=16, lr=1.5e-3, optimizer=Muon(lr=3e-3), schedule=Trapezoid(decay=0.25)
        ),
    )


PARTS = (world_net, tokenizer, tokenizer_decoder, autoencoder, autoencoder_decoder, vlm)
RECIPES = {f"mini.{recipe.__name__}": recipe for recipe in PARTS}
