"""The networks that look, by name, loaded when the first chosen metric asks and not before.

Published ones come from verified files (pretrained/weights/published.py); without them the metric says which file it wants. The
embedded WorldNet and anybody's own are handed in as loaders.

name -load once-> net on the device -> Extractor (features) | PerceptualDistance (activations) | LPIPS | CLIP
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from ..pretrained.weights.published import CLIP_DATACOMP, CLIP_OPENAI
from .features import Extractor
from .pairwise import levels
from .rules import Look

Loader = Callable[[], Any]
CLEAN = 299


class Networks:
    """Loads each net once, in evaluation mode, fp32, on one device."""

    def __init__(self, device: torch.device | str = "cpu", *, look: Look = "network", **own: Loader) -> None:
        self.device, self.look = torch.device(device), look
        self.loaders: dict[str, Loader] = {**published(), **own}
        self.loaded: dict[str, Any] = {}
        self.extractors: dict[str, Extractor] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self.loaders:
            raise ValueError(f"there is no network {name!r}; there are {', '.join(self.loaders)}")
        if name not in self.loaded:
            net = self.loaders[name]()
            self.loaded[name] = net.to(self.device).eval() if isinstance(net, nn.Module) else net
        return self.loaded[name]

    def extractor(self, name: str) -> Extractor:
        """The net as the one who looks for distances of sets, through the protocol's resize."""
        if name not in self.extractors:
            net = self[name]
            if name == "inception" and self.look == "clean-bicubic-299":
                net = CleanInception(net)
            self.extractors[name] = Extractor(net, name)
        return self.extractors[name]


def published() -> Mapping[str, Loader]:
    """Loaders of the networks behind published numbers; nothing is imported until one is called."""

    def inception() -> Any:
        from ..pretrained.networks.inception import Inception

        return Inception.load()

    def lpips(backbone: Literal["alex", "vgg"]) -> Any:
        from ..pretrained.networks.lpips import LPIPS

        return LPIPS.load(backbone)

    def dinov2() -> Any:
        from ..pretrained.networks.dinov2 import DINOv2

        return DINOv2.load()

    def clip(repo: str) -> Any:
        from ..pretrained.networks.clip import CLIP

        return CLIP.load(repo)

    return {
        "inception": inception,
        "lpips-alex": lambda: lpips("alex"),
        "lpips-vgg": lambda: lpips("vgg"),
        "dinov2": dinov2,
        "clip": lambda: clip(CLIP_OPENAI),
        "clip-datacomp": lambda: clip(CLIP_DATACOMP),
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
        seen = torch.from_numpy(np.stack(planes)).unflatten(0, images.shape[:2])
        return self.net.pooled(seen.to(images.device))


def resized(plane: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "299 299"]:
    """One float channel to 299 px; bicubic overshoot is clipped."""
    size = (CLEAN, CLEAN)
    return np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC)).clip(0, 255)
