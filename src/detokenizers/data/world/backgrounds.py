"""What the objects of a scene stand on: eleven plain colours and eleven textures, at any resolution.

name -> master tile of 768 px, one and a half frames wide -> shrunk once per resolution -> a crop per scene.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from .objects import BANK

FRAME, TILE = 512, 768  # px of the master tile: one frame, and all of it
Plane = Float[np.ndarray, "h w"]
Picture = Float[np.ndarray, "h w 3"]

PLAIN: dict[str, tuple[int, int, int]] = {
    "white": (250, 250, 250),
    "blue": (98, 158, 240),
    "yellow": (255, 219, 100),
    "green": (118, 196, 122),
    "pink": (251, 178, 206),
    "purple": (165, 128, 220),
    "orange": (250, 164, 86),
    "grey": (164, 168, 176),
    "red": (222, 82, 78),
    "brown": (140, 100, 72),
    "black": (30, 30, 36),
}
PHRASES: dict[str, str] = {
    **{name: f"on a {name} background" if name != "orange" else "on an orange background" for name in PLAIN},
    "wood": "on a wooden table",
    "grass": "on grass",
    "sky": "in the sky",
    "sand": "on sand",
    "water": "on water",
    "night": "in the night sky",
    "checkered": "on a checkered floor",
    "dotted": "on a dotted background",
    "striped": "on a striped background",
    "brick": "on a brick wall",
    "gravel": "on gravel",
}
TEXTURES = [name for name in PHRASES if name not in PLAIN]


def crop(name: str, offset: tuple[float, float], resolution: int) -> UInt8[np.ndarray, "r r 3"]:
    """Return one frame of a background; `offset` (x, y) in [0, 0.5] frames is where in its tile."""
    tile = _tile(name, resolution)
    x, y = (min(round(o * resolution), tile.shape[0] - resolution) for o in offset)
    return tile[y : y + resolution, x : x + resolution]


@lru_cache(256)
def _tile(name: str, resolution: int) -> UInt8[np.ndarray, "t t 3"]:
    side = round(resolution * TILE / FRAME)
    if name in PLAIN:
        return np.broadcast_to(np.array(PLAIN[name], np.uint8), (side, side, 3))
    if name not in MASTERS:
        raise ValueError(f"there is no background called {name!r}; there are {', '.join(PHRASES)}")
    master = MASTERS[name]().clip(0, 255).round().astype(np.uint8)
    return np.asarray(Image.fromarray(master).resize((side, side), Image.Resampling.LANCZOS))


def _grid() -> tuple[Plane, Plane]:
    """Return x and y in frames, from 0 to 1.5."""
    line = (np.arange(TILE, dtype=np.float32) + 0.5) / FRAME
    return np.broadcast_to(line, (TILE, TILE)), np.broadcast_to(line[:, None], (TILE, TILE))


def _noise(seed: int, across: int, down: int) -> Plane:
    """Smooth noise in [0, 1] with about `across` by `down` bumps on the tile."""
    grid = np.random.default_rng(seed).random((down, across), np.float32)
    return np.asarray(Image.fromarray(grid).resize((TILE, TILE), Image.Resampling.BICUBIC))


def _fractal(seed: int, across: int, down: int, octaves: int) -> Plane:
    layers = [_noise(seed + i, across << i, down << i) / 2**i for i in range(octaves)]
    return np.sum(layers, 0) / sum(2.0**-i for i in range(octaves))


def _between(low: tuple[int, int, int], high: tuple[int, int, int], amount: Plane) -> Picture:
    """Blend two colours; amount 0 is the first."""
    amount = amount[..., None].clip(0, 1)
    return (np.array(low) * (1 - amount) + np.array(high) * amount).astype(np.float32)


def _sky() -> Picture:
    _, y = _grid()
    blue = _between((92, 166, 244), (172, 214, 252), y / 1.5)
    cloud = np.clip((_fractal(4, 4, 6, 4) - 0.52) * 5, 0, 0.92)[..., None]
    return blue * (1 - cloud) + 252 * cloud


def _night() -> Picture:
    x, y = _grid()
    picture = _between((14, 18, 52), (58, 42, 104), y / 1.5)
    random = np.random.default_rng(7)
    for sx, sy, size in zip(random.random(70) * 1.5, random.random(70) * 1.5, random.random(70)):
        radius = 0.005 + 0.006 * size
        near = tuple(slice(max(0, int((c - 3 * radius) * FRAME)), int((c + 3 * radius) * FRAME) + 1) for c in (sy, sx))
        glow = np.exp(-((x[near] - sx) ** 2 + (y[near] - sy) ** 2) / radius**2)
        picture[near] += (200 * glow * (0.5 + 0.5 * size))[..., None]
    return picture


def _wood() -> Picture:
    x, y = _grid()
    plank = y / 0.25
    row = np.floor(plank)
    grain = np.sin((y + 0.03 * _noise(11, 5, 24)) * 150 + 6 * _noise(12, 3, 6)) * 0.5 + 0.5
    tone = 0.35 * grain + 0.65 * _fractal(13, 3, 40, 2) + 0.18 * np.sin(row * 2.4)
    picture = _between((150, 94, 50), (206, 146, 88), tone)
    gap = np.minimum(plank % 1, 1 - plank % 1)
    seam = np.clip(1 - np.abs((x + 0.43 * row) % 0.9 - 0.45) / 0.006, 0, 1)
    dark = np.maximum(np.clip(1 - gap / 0.05, 0, 1), seam)
    return picture * (1 - 0.5 * dark[..., None])


def _sand() -> Picture:
    _, y = _grid()
    ripple = np.sin((y + 0.09 * _noise(21, 4, 5)) * 42) * 0.5 + 0.5
    return _between(
        (214, 180, 124), (246, 220, 170), 0.45 * ripple + 0.35 * _noise(22, 9, 9) + 0.2 * _noise(23, 150, 150)
    )


def _water() -> Picture:
    x, y = _grid()
    wave = np.sin((y + 0.05 * np.sin(x * 12 + 5 * _noise(31, 4, 4)) + 0.06 * _noise(32, 5, 9)) * 44) * 0.5 + 0.5
    return _between((34, 116, 196), (112, 190, 236), wave**1.6)


def _checkered() -> Picture:
    x, y = _grid()
    return _between((238, 238, 240), (70, 72, 82), (np.floor(x * 4) + np.floor(y * 4)) % 2)


def _striped() -> Picture:
    x, _ = _grid()
    return _between((250, 246, 246), (246, 160, 186), np.floor(x * 6) % 2)


def _dotted() -> Picture:
    x, y = _grid()
    row = np.floor(y * 4)
    away = np.hypot((x * 4 + 0.5 * (row % 2)) % 1 - 0.5, y * 4 % 1 - 0.5)
    return _between((252, 252, 250), (84, 178, 172), (away - 0.24) * 40)


def _photo(name: str, dark: tuple[int, int, int], light: tuple[int, int, int]) -> Callable[[], Picture]:
    """Tint one of the embedded grey photographs."""

    def master() -> Picture:
        image = Image.open(io.BytesIO((BANK / f"{name}.webp").read_bytes())).convert("L")
        grey = np.asarray(image.resize((TILE, TILE), Image.Resampling.BICUBIC), np.float32)
        low, high = np.percentile(grey, [2, 98])
        return _between(dark, light, (grey - low) / (high - low))

    return master


MASTERS: dict[str, Callable[[], Picture]] = {
    "wood": _wood,
    "grass": _photo("grass", (70, 132, 46), (142, 198, 82)),
    "sky": _sky,
    "sand": _sand,
    "water": _water,
    "night": _night,
    "checkered": _checkered,
    "dotted": _dotted,
    "striped": _striped,
    "brick": _photo("brick", (122, 62, 48), (206, 124, 98)),
    "gravel": _photo("gravel", (96, 94, 94), (206, 202, 196)),
}
