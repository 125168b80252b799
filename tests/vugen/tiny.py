"""A VUGEN of the real classes that fits a test: 16-pixel images, 4x4 features of a tiny Janus, 4-channel latents."""

from __future__ import annotations

import torch

from detokenizers.pretrained.vlm.feature_vlm import TappedVLM
from detokenizers.pretrained.vlm.text_cache import TextCache
from detokenizers.vugen.tower import Tower

from ..pretrained.tiny import tiny_vlm

PROMPTS = ["a red apple", "two green dog"]


def feature_vlm() -> TappedVLM:
    """The vision tower and the language model of a tiny Janus."""
    janus = tiny_vlm()
    return TappedVLM(janus.model, janus.form.ids, janus.form.tokenizer.pad_token_id)


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
