"""The networks behind metrics, by name, loaded when the first chosen metric asks and not before.

Published ones come from verified files (pretrained/weights/published.py); where one is missing, the error names it. The
embedded WorldNet and your own are handed in as loaders.

name -load once-> net on the device -> Extractor (features) | PerceptualDistance (activations) | LPIPS | CLIP
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from ..pretrained.weights.published import CLIP_DATACOMP, CLIP_OPENAI, INCEPTION_EXPORT
from .features import Extractor
from .pairwise import PerceptualDistance, levels
from .rules import Resize

Loader = Callable[[], Any]
CLEAN = 299


class Networks:
    """Loads each net once, in evaluation mode, fp32, on one device."""

    def __init__(self, device: torch.device | str = "cpu", *, resize: Resize = "network", **own: Loader) -> None:
        self.device, self.resize = torch.device(device), resize
        self.loaders: dict[str, Loader] = {**published(), **own}
        self.loaded: dict[str, Any] = {}
        self.extractors: dict[str, Extractor] = {}

    def __getitem__(self, name: str) -> Any:
        if name.startswith("pd-"):
            return PerceptualDistance(self[name[3:]], self.extractor(name[3:]).identity)
        if name not in self.loaders:
            raise ValueError(f"there is no network {name!r}; there are {', '.join(self.loaders)}")
        if name not in self.loaded:
            net = self.loaders[name]()
            self.loaded[name] = net.to(self.device).eval() if isinstance(net, nn.Module) else net
        return self.loaded[name]

    def extractor(self, name: str) -> Extractor:
        """The net behind distances of sets, after the protocol's resize."""
        if name not in self.extractors:
            net = self[name]
            if hasattr(net, "pooled") and self.resize == "clean-bicubic-299":
                net = CleanInception(net)
            self.extractors[name] = Extractor(net, name)
        return self.extractors[name]


def published() -> Mapping[str, Loader]:
    """Loaders of the networks behind published numbers; nothing is imported until one is called."""

    def loader(module: str, name: str, *of: str) -> Loader:
        return lambda: getattr(import_module(f"...pretrained.networks.{module}", __name__), name).load(*of)

    return {
        "inception": loader("inception", "Inception"),
        "inception-7ff4a85c": loader("inception", "Inception", INCEPTION_EXPORT),
        "efficientnet-lite0": loader("efficientnet_lite", "EfficientNetLite0"),
        "lpips-alex": loader("lpips", "LPIPS", "alex"),
        "lpips-vgg": loader("lpips", "LPIPS", "vgg"),
        "dinov2": loader("dinov2", "DINOv2"),
        "clip": loader("clip", "CLIP", CLIP_OPENAI),
        "clip-datacomp": loader("clip", "CLIP", CLIP_DATACOMP),
    }


class CleanInception(nn.Module):
    """Inception behind clean-fid's resize (Parmar et al., 2022): PIL's bicubic on float channels, no rounding after."""

    view = f"clean-fid: PIL bicubic {CLEAN} on float channels, clipped to 0..255"

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    @property
    def identity(self) -> str:
        return f"clean/{self.net.identity}"

    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2048"]:
        """Pooled features of the levels a PNG would hold, resized without being rounded again."""
        planes = [resized(plane) for plane in levels(images).flatten(0, 1).float().numpy()]
        resized_images = torch.from_numpy(np.stack(planes)).unflatten(0, images.shape[:2])
        return self.net.pooled(resized_images.to(images.device))


def resized(plane: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "299 299"]:
    """One float channel to 299 px; bicubic overshoot is clipped."""
    size = (CLEAN, CLEAN)
    return np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC)).clip(0, 255)
