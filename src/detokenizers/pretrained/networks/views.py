"""What a published network reads of a picture: 8-bit pixels, resized by the one kernel it was always used with.

The resize moves a Fréchet distance by more than most papers' improvements, so it belongs to the network, not to a
setting: PIL's antialiased bicubic for DINOv2 and CLIP, TensorFlow 1's bilinear without antialiasing for Inception.

images [b 3 h w] in [-1, 1] -quantised-> uint8 -View | tf1_bilinear-> what the network reads
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ...pixels import CropRule, centre_box, quantised

Triple = tuple[float, float, float]


def tf1_bilinear(images: Float[Tensor, "b c h w"], size: int) -> Float[Tensor, "b c s s"]:
    """TensorFlow 1's `resize_bilinear(align_corners=False)`: pixel i reads from i * in / out, two neighbours an axis.

    Corners are not centred and nothing is smoothed before shrinking; both are wrong, and part of what FID means.
    """
    for axis in (3, 2):
        length = images.shape[axis]
        # fp32 arithmetic decides which neighbours are read; TensorFlow did it in fp32.
        positions = torch.arange(size, dtype=torch.float32, device=images.device) * torch.tensor(length / size)
        low = positions.long()
        shape = (1, 1, 1, size) if axis == 3 else (1, 1, size, 1)
        weight = (positions - low).view(shape).to(images.dtype)
        near = images.index_select(axis, low)
        images = near + (images.index_select(axis, (low + 1).clamp(max=length - 1)) - near) * weight
    return images


@dataclass(frozen=True)
class View:
    """PIL's bicubic on 8-bit pixels to `size`, then mean and standard deviation.

    Args:
        crop: how the centre is cut once the shorter side is `size`; without it both sides become `size`.
    """

    size: int
    mean: Triple
    std: Triple
    crop: CropRule | None

    def __call__(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 s s"]:
        """What the network reads, on the images' device in fp32; each image on its own, so batches change nothing."""
        rows = quantised(images).permute(0, 2, 3, 1).cpu().numpy()
        seen = np.stack([np.asarray(self._resized(Image.fromarray(row))) for row in rows])
        scaled = torch.from_numpy(seen).to(images.device).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(values, device=images.device).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return (scaled - mean) / std

    def _resized(self, picture: Image.Image) -> Image.Image:
        if self.crop is None:
            return picture.resize((self.size, self.size), Image.Resampling.BICUBIC)
        shorter = min(picture.size)
        width, height = (int(self.size * side / shorter) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
        return picture.crop(centre_box(picture.size, self.size, self.crop))

    def __str__(self) -> str:
        return f"PIL bicubic {self.size}{f', centre crop ({self.crop})' if self.crop else ''}"
