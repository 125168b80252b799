"""Drawing a scene: one soft shadow under all objects, then the objects with clean edges.

truth with boxes + resolution -> background crop -> shadow -> premultiplied objects -> uint8 image.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFilter

from .backgrounds import crop
from .objects import picture
from .scenes import Thing, Truth

SHADOW = 0.42  # darkness
SHADOW_BLUR, SHADOW_DROP = 0.022, (0.012, 0.028)  # sigma and (x, y) shift, in frames


def render(truth: Truth, resolution: int) -> UInt8[np.ndarray, "r r 3"]:
    """Draw a placed truth as an sRGB image of `resolution` px."""
    canvas = crop(truth.background, truth.offset, resolution).astype(np.float32)
    drawn = [(*_corner(thing, resolution), _resized(thing, resolution)) for thing in truth.objects]
    mask = Image.new("L", (resolution, resolution))
    dx, dy = (round(d * resolution) for d in SHADOW_DROP)
    for x, y, picture_ in drawn:
        mask.paste(255, (x + dx, y + dy), Image.fromarray(picture_[..., 3]))
    shadow = np.asarray(mask.filter(ImageFilter.GaussianBlur(SHADOW_BLUR * resolution)), np.float32)
    canvas *= 1 - SHADOW / 255 * shadow[..., None]
    for x, y, picture_ in drawn:
        h, w = picture_.shape[:2]
        under = canvas[y : y + h, x : x + w]
        under *= 1 - picture_[..., 3:].astype(np.float32) / 255
        under += picture_[..., :3]
    return canvas.clip(0, 255).round().astype(np.uint8)


def _size(thing: Thing, resolution: int) -> tuple[int, int]:
    if thing.box is None:
        raise ValueError(f"{thing.noun!r} has no box yet; World.render gives a parsed caption its layout")
    x0, y0, x1, y1 = thing.box
    return max(1, round((x1 - x0) * resolution)), max(1, round((y1 - y0) * resolution))


def _corner(thing: Thing, resolution: int) -> tuple[int, int]:
    w, h = _size(thing, resolution)
    x0, y0 = (thing.box or (0.0, 0.0))[:2]
    return min(round(x0 * resolution), resolution - w), min(round(y0 * resolution), resolution - h)


def _resized(thing: Thing, resolution: int) -> UInt8[np.ndarray, "h w 4"]:
    """Resize the four premultiplied bands as plain numbers; PIL would premultiply RGBA once more and draw halos."""
    source, size = picture(thing.noun, thing.colour), _size(thing, resolution)
    bands = Image.frombytes("CMYK", source.shape[1::-1], source.tobytes())
    smaller = size[0] < source.shape[1]
    return np.asarray(bands.resize(size, Image.Resampling.HAMMING if smaller else Image.Resampling.BICUBIC))
