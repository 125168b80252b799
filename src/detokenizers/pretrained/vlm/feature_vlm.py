"""A frozen VLM as VUGEN needs it: what its vision tower makes of an image, and its language model's cache of a prompt.

The features are the exact tensor that the VLM's own projector receives, before any pooling of the projector's.

images -resize, normalise, vision tower-> features [b n c] ; prompts -spell-> ids -language model-> TextCache
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from detokenizers.checkpoint import fingerprint
from detokenizers.config import Config
from detokenizers.pretrained.vlm.text_cache import TextCache, padded
from detokenizers.protocols import Grid

HALF = (0.5, 0.5, 0.5)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class FeatureVLM(Protocol):
    """A frozen VLM that reads images and prompts."""

    @property
    def grid(self) -> Grid: ...
    @property
    def channels(self) -> int: ...
    @property
    def language_model(self) -> nn.Module: ...
    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n c"]: ...
    def spell(self, prompt: str, /) -> list[int]: ...
    def text_cache(self, prompts: Sequence[str]) -> TextCache: ...
    def fingerprint(self) -> str: ...


@dataclass(frozen=True)
class Tap:
    """Where a family of VLMs keeps its parts, by their names below `model.model`."""

    tower: str
    projector: str
    language_model: str
    features: Callable[[nn.Module, Any, Tensor], Tensor]
    """(tower, config, pixels) -> what the projector receives."""
    mean: tuple[float, ...] = HALF
    std: tuple[float, ...] = HALF
    any_size: bool = True
    """Whether position embeddings are interpolated for other sizes than the native one."""


def _last(tower: Any, config: Any, pixels: Tensor) -> Tensor:
    """The last hidden state, after the last norm."""
    return tower(pixels, **_resized(tower, pixels)).last_hidden_state


def _selected(tower: Any, config: Any, pixels: Tensor) -> Tensor:
    """Hidden states of the configured layers side by side, without the class token where the config drops it."""
    states = tower(pixels, output_hidden_states=True, **_resized(tower, pixels)).hidden_states
    layers = config.vision_feature_layer
    chosen = [states[layer] for layer in ([layers] if isinstance(layers, int) else layers)]
    first = 1 if config.vision_feature_select_strategy == "default" else 0
    return torch.cat([state[:, first:] for state in chosen], -1)


def _whole(tower: Any, config: Any, pixels: Tensor) -> Tensor:
    """The last hidden state of a tower that takes images with a mask of what is padding: nothing is."""
    cells = [side // config.vision_config.patch_size for side in pixels.shape[-2:]]
    mask = torch.ones(len(pixels), *cells, dtype=torch.bool, device=pixels.device)
    return tower(pixel_values=pixels, patch_attention_mask=mask).last_hidden_state


def _without_class_token(tower: Any, config: Any, pixels: Tensor) -> Tensor:
    """The last hidden state of a timm tower."""
    state = tower(pixels).last_hidden_state
    return state[:, 1:] if config.vision_use_cls_token else state


def _resized(tower: Any, pixels: Tensor) -> dict[str, bool]:
    """Images of another than the native size need the position embeddings interpolated."""
    return {} if pixels.shape[-1] == tower.config.image_size else {"interpolate_pos_encoding": True}


TAPS = {
    "janus": Tap("vision_model", "aligner", "language_model", _last),
    "llava_onevision": Tap("vision_tower", "multi_modal_projector", "language_model", _selected),
    "llava": Tap("vision_tower", "multi_modal_projector", "language_model", _selected, CLIP_MEAN, CLIP_STD),
    "smolvlm": Tap("vision_model", "connector", "text_model", _whole),
    "idefics3": Tap("vision_model", "connector", "text_model", _whole),
    "perception_lm": Tap(
        "vision_tower", "multi_modal_projector", "language_model", _without_class_token, any_size=False
    ),
}


def native_size(vision: Any) -> int:
    """The side that a tower was trained at; timm's towers keep it among their arguments.

    Raises:
        ValueError: the config does not hold it.
    """
    size = getattr(vision, "image_size", None) or (getattr(vision, "model_args", None) or {}).get("img_size")
    if not size:
        raise ValueError("this vision tower does not give its image size; set view.size")
    return int(size if isinstance(size, int) else size[0])


class View(Config):
    """How images come to the vision tower, and what of its features is kept."""

    # PAPER GAP (docs/vugen.md#grid): the resolution and the grid of the features are lost from the text.
    size: int | None = None
    """Side that images are resized to; the tower's own when not given."""
    pool: int = Field(default=1, ge=1)
    """Side of the squares of features that are averaged; 1 keeps what the projector receives."""


class TappedVLM(nn.Module):
    """A `FeatureVLM` over a VLM of transformers, which it freezes, and never changes, hooks or moves.

    Args:
        model: the VLM, `...ForConditionalGeneration`.
        spell: token ids of a prompt to draw; those of "" stand for no prompt.
        pad: the id that shorter prompts are filled up with.
        view: how images are read.

    Raises:
        ValueError: it is of a family whose features nobody has located, or its tower makes no square raster.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, spell: Callable[[str], list[int]], pad: int, view: View = View()) -> None:  # noqa: B008
        super().__init__()
        config: Any = model.config
        if config.model_type not in TAPS:
            raise ValueError(f"features of a {config.model_type!r} are not known; those of {', '.join(TAPS)} are")
        self.tap, self.view, self.spell, self.pad = TAPS[config.model_type], view, spell, pad
        self.model = model.eval().requires_grad_(False)
        native = native_size(config.vision_config)
        self.image_size: int = view.size or native
        if self.image_size != native and not self.tap.any_size:
            raise ValueError(
                f"a {config.model_type} reads images of {native} px only, not {view.size}; leave view.size out"
            )
        self.register_buffer("mean", torch.tensor(self.tap.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(self.tap.std).view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> Self:
        """It never leaves eval mode: some towers drop paths while training."""
        return super().train(False)

    @property
    def inner(self) -> Any:
        return self.model.model

    @property
    def language_model(self) -> nn.Module:
        return getattr(self.inner, self.tap.language_model)

    @cached_property
    def _shape(self) -> tuple[int, int]:
        side = self.image_size
        with torch.no_grad():
            count, channels = self.features(torch.zeros(1, 3, side, side, device=self.mean.device)).shape[1:]
        if round(count**0.5) ** 2 != count:
            raise ValueError(f"this vision tower makes {count} tokens of an image, which is no square raster")
        return count, channels

    @property
    def grid(self) -> Grid:
        """Rows and columns of the features."""
        return Grid(*[round(self._shape[0] ** 0.5)] * 2)

    @property
    def channels(self) -> int:
        """Numbers of one feature."""
        return self._shape[1]

    @torch.no_grad()
    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n c"]:
        """What the vision tower makes of images in [-1, 1], in raster order, fp32."""
        size = (self.image_size, self.image_size)
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False)
        tower = getattr(self.inner, self.tap.tower)
        weight = next(tower.parameters())
        pixels = (((images.to(self.mean) + 1) / 2 - self.mean) / self.std).to(weight.device, weight.dtype)
        features = self.tap.features(tower, self.model.config, pixels).float()
        return features if self.view.pool == 1 else self._pooled(features)

    def _pooled(self, features: Tensor) -> Tensor:
        side = round(features.shape[1] ** 0.5)
        return F.avg_pool2d(features.mT.unflatten(2, (side, side)), self.view.pool).flatten(2).mT

    def text_cache(self, prompts: Sequence[str]) -> TextCache:
        """The language model's keys and values of prompts."""
        ids, lengths = padded([self.spell(prompt) for prompt in prompts], self.pad)
        device = next(self.language_model.parameters()).device
        return TextCache.read(self.language_model, ids.to(device), lengths.to(device))

    def fingerprint(self) -> str:
        """Of all that features and text caches depend on."""
        parts = {"tower": getattr(self.inner, self.tap.tower), "text": self.language_model}
        # Rounded, so that a VLM loaded in bfloat16 is the one loaded in float32.
        weights = {
            f"{name}.{key}": x.bfloat16() for name, part in parts.items() for key, x in part.state_dict().items()
        }
        return fingerprint(weights | {self.view.to_yaml(): torch.tensor([self.image_size])})
