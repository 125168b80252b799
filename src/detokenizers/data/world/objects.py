"""The object bank: some 940 glossy pictures with transparent edges, their names, and the colours they can be painted.

nouns.json + objects.zip -> Noun -> picture(noun, colour): a premultiplied image, cropped to what is opaque.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

BANK = resources.files("detokenizers.data.world") / "bank"
# hue, saturation and value that the painted part of an object is moved to
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.990, 0.85, 0.88),
    "orange": (0.075, 0.85, 0.97),
    "yellow": (0.135, 0.75, 0.98),
    "green": (0.345, 0.72, 0.72),
    "blue": (0.600, 0.75, 0.88),
    "purple": (0.755, 0.62, 0.76),
    "pink": (0.915, 0.42, 0.99),
}
SPREAD = 0.09  # hues this near the dominant one belong to the painted part


@dataclass(frozen=True)
class Noun:
    """A thing that can be in a scene.

    `role` is "core", "tail" or "held-out"; `hue` is the dominant hue in [0, 1) of an object that can be painted;
    `native` the named colour it has unpainted, if any: an apple is red, a dog is none of the seven.
    """

    name: str
    role: str
    plural: str
    mass: bool = False
    hue: float | None = None
    native: str | None = None

    @property
    def colours(self) -> tuple[str, ...]:
        """The colours it can be painted, without those that make it the name of another object ("green heart")."""
        if self.hue is None:
            return ()
        return tuple(c for c in COLOURS if f"{c} {self.name}" not in nouns())


@lru_cache(1)
def nouns() -> dict[str, Noun]:
    """Return every noun of the bank by name: the core in its curated order, then the tail, then the held-out."""
    curated = json.loads((BANK / "nouns.json").read_text(encoding="utf-8"))
    found: dict[str, Noun] = {}
    for entry in curated["core"]:
        name = entry["noun"]
        plural, mass = entry.get("plural", _plural(name)), name in curated["mass"]
        found[name] = Noun(name, "core", plural, mass, entry.get("hue"), entry.get("native"))
    for role in ("tail", "held-out"):
        for path in sorted(p for p in _archive().namelist() if p.startswith(f"{role}/")):
            name = path.removeprefix(f"{role}/").removesuffix(".webp")
            found[name] = Noun(name, role, _plural(name), name in curated["mass"])
    return found


@lru_cache(4096)
def picture(name: str, colour: str | None = None) -> UInt8[np.ndarray, "h w 4"]:
    """Return an object as premultiplied RGBA, painted if a colour is named.

    Raises:
        ValueError: the noun or the colour is not one the bank has.
    """
    noun = nouns().get(name)
    if noun is None:
        raise ValueError(f"there is no object called {name!r} in the bank; see detokenizers.data.world.objects.nouns()")
    if colour is not None and colour not in noun.colours:
        raise ValueError(f"{name!r} cannot be painted {colour!r}; it can be {', '.join(noun.colours) or 'nothing'}")
    rgba = _straight(name)
    rgb = rgba[..., :3]
    if colour is not None and colour != noun.native:
        rgb = _painted(name, COLOURS[colour])
    premultiplied = np.concatenate([rgb * rgba[..., 3:], rgba[..., 3:]], -1)
    return (premultiplied * 255).round().astype(np.uint8)


@lru_cache(1)
def _archive() -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO((BANK / "objects.zip").read_bytes()))


def _straight(name: str) -> Float[np.ndarray, "h w 4"]:
    data = _archive().read(f"{nouns()[name].role}/{name}.webp")
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"), np.float32) / 255


def _turn(difference: np.ndarray | float) -> np.ndarray | float:
    """Wrap a difference of hues into [-0.5, 0.5)."""
    return (difference + 0.5) % 1 - 0.5


def _hsv(rgb: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    image = Image.fromarray((rgb * 255).round().astype(np.uint8), "RGB")
    return np.asarray(image.convert("HSV"), np.float32) / 255


@lru_cache(1024)
def _paint(name: str) -> tuple[float, float, float]:
    """Return hue, and mean saturation and value of the painted part of an object."""
    rgba, hue = _straight(name), nouns()[name].hue or 0.0
    hsv = _hsv(rgba[..., :3])
    weight = rgba[..., 3] * (np.abs(_turn(hsv[..., 0] - hue)) < SPREAD) * (hsv[..., 1] > 0.15) + 1e-6
    return hue, float((hsv[..., 1] * weight).sum() / weight.sum()), float((hsv[..., 2] * weight).sum() / weight.sum())


def _painted(name: str, target: tuple[float, float, float]) -> Float[np.ndarray, "h w 3"]:
    """Rotate the dominant hue to the target's and bend saturation and value towards it; highlights and details stay."""
    rgb = _straight(name)[..., :3]
    hue, saturation, value = _paint(name)
    hsv = _hsv(rgb)
    off = _turn(hsv[..., 0] - hue)
    belongs = np.clip((1.6 * SPREAD - np.abs(off)) / (0.6 * SPREAD), 0, 1) * np.clip(hsv[..., 1] / 0.12 - 0.5, 0, 1)
    h = (target[0] + 0.4 * off) % 1
    s, v = _moved(hsv[..., 1], saturation, target[1]), _moved(hsv[..., 2], value, target[2])
    image = Image.fromarray((np.stack([h, s, v], -1) * 255).round().astype(np.uint8), "HSV")
    painted = np.asarray(image.convert("RGB"), np.float32) / 255
    return rgb + belongs[..., None] * (painted - rgb)


def _moved(values: Float[np.ndarray, "h w"], mean: float, target: float) -> Float[np.ndarray, "h w"]:
    """Move values in [0, 1] so that their mean comes near the target: scaled down, or lifted by a gamma curve."""
    if target < mean:
        return values * (target / mean)
    return values ** max(0.2, float(np.log(target) / np.log(np.clip(mean, 0.05, 0.99))))


def _plural(name: str) -> str:
    if name.endswith(("s", "x", "ch", "sh")):
        return name + "es"
    if name.endswith("y") and name[-2] not in "aeiou":
        return name[:-1] + "ies"
    return name + "s"
