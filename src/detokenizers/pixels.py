"""Where pixels are rounded and centres are cut: two small things that libraries do differently.

images [-1, 1] -quantised-> uint8 0..255 -to_tensor-> [-1, 1] ; width, height -centre_box-> borders of the middle
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

Rounding = Literal["nearest", "down"]
"""`nearest` is ours and LlamaGen's (127.5 x + 128, cut off); `down` is what Janus' script does, casting 127.5 (x + 1).
The two differ by one level in half of all pixels."""


def quantised(images: Float[Tensor, "b 3 h w"], rounding: Rounding = "nearest") -> UInt8[Tensor, "b 3 h w"]:
    """The pixel levels of images in [-1, 1], on their own device; overshoot is clipped.

    `down` is for pictures as they are drawn. A picture that was read from a file holds its levels but for a last digit,
    and loses a whole one to it.

    Raises:
        ValueError: the images hold NaN or infinity, or are no images.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images are [b 3 h w] in [-1, 1], got {tuple(images.shape)}")
    if not torch.isfinite(images).all():
        raise ValueError("these images hold NaN or infinity; what drew them diverged")
    # In float64 where the device has it: a level should not hang on the last digit.
    wide = torch.float32 if images.device.type == "mps" else torch.float64
    scaled = (images.detach().to(wide) + 1) * 127.5
    return (scaled.round() if rounding == "nearest" else scaled.floor()).clamp(0, 255).to(torch.uint8)


def to_tensor(levels: UInt8[np.ndarray, "b h w 3"]) -> Float[Tensor, "b 3 h w"]:
    """Levels 0..255 to [-1, 1]."""
    return torch.from_numpy(np.array(levels)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_levels(images: Float[Tensor, "b 3 h w"]) -> UInt8[np.ndarray, "b h w 3"]:
    """[-1, 1] to levels 0..255; overshoot is clipped, NaN is an error."""
    return quantised(images).permute(0, 2, 3, 1).cpu().contiguous().numpy()


CropRule = Literal["round", "floor"]
"""Where an odd number of pixels is to go: `round` is torchvision's `CenterCrop`, which rounds to even (of 1 pixel it
takes 0 from the left, of 3 it takes 2); `floor` is transformers' image processors and ADM's crop (0 and 1)."""


def centre_box(size: tuple[int, int], side: int, rule: CropRule = "round") -> tuple[int, int, int, int]:
    """Left, upper, right and lower border of the middle square of a picture of this width and height."""
    spare = [length - side for length in size]
    left, top = (round(gap / 2) if rule == "round" else gap // 2 for gap in spare)
    return left, top, left + side, top + side
