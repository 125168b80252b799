"""A VUGEN of the real classes that fits a test: 16-pixel images, 4x4 features of a tiny Janus, 4-channel latents."""

from __future__ import annotations

from functools import partial

import torch

from detokenizers.flow import FixedShift
from detokenizers.nn.uvit import UViTConfig
from detokenizers.pretrained.vlm.feature_vlm import TappedVLM
from detokenizers.pretrained.vlm.load_features import drawn_from
from detokenizers.pretrained.vlm.text_cache import TextCache
from detokenizers.vugen.autoencoder import Autoencoder, AutoencoderConfig
from detokenizers.vugen.decoders import PixelDecoder
from detokenizers.vugen.model import VUGEN, VUGENConfig
from detokenizers.vugen.reducers import WhitenedMLP
from detokenizers.vugen.tower import Tower

from ..pretrained.tiny import tiny_vlm

PROMPTS = ["a red apple", "two green dog"]


def feature_vlm() -> TappedVLM:
    """The vision tower and the language model of a tiny Janus."""
    janus = tiny_vlm()
    return TappedVLM(janus.model, partial(drawn_from, janus.form), janus.form.tokenizer.pad_token_id)


def tower(vlm: TappedVLM, channels: int = 4) -> Tower:
    """A tower whose last layer is no longer zero, as after some training."""
    torch.manual_seed(0)
    built = Tower(vlm.language_model, channels, vlm.grid)
    torch.nn.init.normal_(built.out.weight, std=0.1)
    return built


def latents(count: int = 2, channels: int = 4) -> torch.Tensor:
    return torch.randn(count, 16, channels, generator=torch.Generator().manual_seed(4))


def texts(vlm: TappedVLM, prompts: list[str] | None = None) -> TextCache:
    return vlm.text_cache(prompts or PROMPTS)


UVIT = UViTConfig(widths=(8, 16), blocks=1, heads=2, radius=2, groups=4)
AUTOENCODER = AutoencoderConfig(
    vlm="tiny", reducer=WhitenedMLP(ratio=8), decoder=PixelDecoder(net=UVIT, steps=2), size=16
)


def pictures(count: int = 8) -> torch.Tensor:
    """Smooth random pictures."""
    colours = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(6)) * 2 - 1
    return torch.nn.functional.interpolate(colours, (16, 16), mode="bilinear")


def autoencoder(vlm: TappedVLM, config: AutoencoderConfig = AUTOENCODER) -> Autoencoder:
    """Started and measured on the pictures, its decoder's zeros filled."""
    torch.manual_seed(0)
    built = config.build(vlm)
    built.start([pictures()])
    with torch.no_grad():
        for weight in built.net.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    built.measure([pictures()])
    return built


def vugen(vlm: TappedVLM, **changes: object) -> VUGEN:
    """A whole model over it."""
    config = VUGENConfig(vlm="tiny", shift=FixedShift(), steps=3, guidance=2.0, **changes)
    built = config.build(vlm, autoencoder(vlm))
    torch.manual_seed(1)
    torch.nn.init.normal_(built.tower.out.weight, std=0.1)
    return built
