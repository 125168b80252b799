"""The embedded world: captioned scenes with exact ground truth, drawn on demand, as many as there are seeds.

(config, split, seed) -> truth -> caption
                              `-> render at any resolution -> image
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Literal, TypeVar, get_args

import numpy as np
from jaxtyping import Float, Int, UInt8
from pydantic import Field, model_validator

from ...config import Config
from .backgrounds import PLAIN, TEXTURES
from .layout import place
from .objects import COLOURS, nouns
from .render import render
from .scenes import COUNTS, KINDS, RELATIONS, Scene, Thing, Truth, caption, seen_colour, words

Split = Literal["train", "validation", "new-captions", "held-out"]
CORE = [n for n in nouns().values() if n.role == "core"]
TAIL = [n for n in nouns().values() if n.role == "tail"]
HELD_OUT = [n for n in nouns().values() if n.role == "held-out"]
T = TypeVar("T")
PATIENCE = 5000  # draws until a world counts as too small for a split
RESERVED = 10  # one combination in so many is kept for new captions


class WorldConfig(Config):
    """How large the world is. The same numbers give the same world on every machine."""

    resolution: int = Field(default=64, ge=8)
    """Side of an image in px."""
    nouns: int = Field(default=24, ge=2, le=len(CORE))
    """How many core nouns, in their curated order."""
    tail: bool = False
    """Also draw the tail objects, alone."""
    plain_backgrounds: int = Field(default=4, ge=0, le=len(PLAIN))
    """How many plain colours: white, blue, yellow, green, pink, purple, orange, grey, red, brown, black."""
    textures: int = Field(default=3, ge=0, le=len(TEXTURES))
    """How many textures: wood, grass, sky, sand, water, night, checkered, dotted, striped, brick, gravel."""
    plain_share: float = Field(default=0.45, ge=0, le=1)
    """Share of scenes on a plain background, where there are both."""
    jitter: float = Field(default=0.3, ge=0, le=1)
    """How much size, position and background crop vary; 0 is the canonical layout."""
    shares: dict[str, float] = Field(
        default_factory=lambda: dict(
            single=0.27, tail=0.16, colour=0.13, two=0.12, position=0.12, counting=0.10, attribution=0.10
        )
    )
    """Relative share of each kind of scene; "tail" counts only with `tail`."""
    counting_colour: float = Field(default=0.4, ge=0, le=1)
    """Share of counting scenes of paintable nouns that name a colour."""

    @model_validator(mode="after")
    def _somewhere(self) -> WorldConfig:
        if self.plain_backgrounds + self.textures == 0:
            raise ValueError("a world needs a background: plain_backgrounds and textures are both 0")
        if unknown := set(self.shares) - set(KINDS):
            raise ValueError(f"unknown kinds of scene {sorted(unknown)}; there are {', '.join(KINDS)}")
        return self


class World:
    """Scenes by seed. Every method is a pure function of the config and its arguments."""

    KINDS = KINDS

    def __init__(self, config: WorldConfig | None = None) -> None:
        self.config = config = config or WorldConfig()
        self.nouns = [n.name for n in CORE[: config.nouns]]
        self.paintable = [n.name for n in CORE[: config.nouns] if n.colours]
        self.countable = [n.name for n in CORE[: config.nouns] if not n.mass]
        self.plain = list(PLAIN)[: config.plain_backgrounds]
        self.textures = TEXTURES[: config.textures]
        self.backgrounds = self.plain + self.textures
        shares = {k: s for k, s in config.shares.items() if (k != "tail" or config.tail) and s > 0}
        self._kinds = list(shares)
        self._shares = np.array(list(shares.values())) / sum(shares.values())
        self._index = {name: i for i, name in enumerate(self.nouns)}

    def scene(self, seed: int, split: Split = "train") -> Scene:
        """Return the scene of a seed.

        `train` and `validation` draw from the same captions, `new-captions` from the tenth of all combinations of
        things and backgrounds that they never use, `held-out` has one of the objects that no other split has.
        """
        truth = self.truth(seed, split)
        return Scene(self.render(truth), caption(truth), truth)

    def truth(self, seed: int, split: Split = "train") -> Truth:
        """Return what is in the scene of a seed, without drawing it."""
        if split not in get_args(Split):
            raise ValueError(f"there is no split {split!r}; there are {', '.join(get_args(Split))}")
        rng = np.random.default_rng([get_args(Split).index(split), seed])
        for _ in range(PATIENCE):
            truth = self._draw(rng, split)
            if self._sensible(truth) and (split == "held-out" or reserved(truth) == (split == "new-captions")):
                return place(truth, self.config.jitter, rng)
        raise ValueError(
            f"found no scene for the split {split!r} in {PATIENCE} draws: this world of {len(self.nouns)} nouns and "
            f"{len(self.backgrounds)} backgrounds is too small for it; raise either"
        )

    def batch(self, seeds: Iterable[int], split: Split = "train") -> tuple[UInt8[np.ndarray, "b h w 3"], list[Scene]]:
        """Return the images of some seeds in one array, and their scenes."""
        scenes = [self.scene(seed, split) for seed in seeds]
        return np.stack([scene.image for scene in scenes]), scenes

    def render(self, truth: Truth, resolution: int | None = None) -> UInt8[np.ndarray, "r r 3"]:
        """Draw a truth; one that was parsed from a caption gets the canonical layout."""
        if any(thing.box is None for thing in truth.objects):
            truth = place(truth, 0.0, np.random.default_rng(0))
        return render(truth, resolution or self.config.resolution)

    def prompts(self, count: int, seed: int = 0, split: Split = "new-captions") -> list[Scene]:
        """Return scenes with `count` different captions.

        Raises:
            ValueError: the world has fewer such captions.
        """
        found: dict[str, Truth] = {}
        for i in range(200 * count + 1000):
            truth = self.truth(seed * 1_000_003 + i, split)
            found.setdefault(caption(truth), truth)
            if len(found) == count:
                return [Scene(self.render(truth), text, truth) for text, truth in found.items()]
        raise ValueError(
            f"found {len(found)} captions of the split {split!r}, not {count}; ask for fewer or enlarge the world"
        )

    @property
    def vocabulary(self) -> list[str]:
        """All words that captions of any split can use, and the grammar of free prompts in this world."""
        names = [n for n in CORE if n.name in self._index] + HELD_OUT + (TAIL if self.config.tail else [])
        known = words().union(*(f"{n.name} {n.plural if n.role == 'core' else ''}".split() for n in names))
        return sorted(known)

    def labels(self, truth: Truth) -> dict[str, Int[np.ndarray, "..."] | Float[np.ndarray, "..."]]:
        """Return what a classifier can learn about a scene; objects outside `self.nouns` count as absent.

        counts [nouns] in 0..4; colours [nouns]: -1 absent, 0 none of the seven, else 1 + index in COLOURS of the colour
        it is seen in (an unpainted apple is red); pairs [nouns 7] is 1 where a noun is seen in a colour; centres
        [nouns 2]: (x, y) in [0, 1] of the only instance, else -1; background: index in `self.backgrounds`; count.
        """
        size, shades = len(self.nouns), list(COLOURS)
        counts, colours = np.zeros(size, np.int64), np.full(size, -1, np.int64)
        pairs, centres = np.zeros((size, len(shades)), np.int64), np.full((size, 2), -1, np.float32)
        for thing in truth.objects:
            if (i := self._index.get(thing.noun)) is None:
                continue
            counts[i] += 1
            shade = seen_colour(thing)
            colours[i] = 0 if shade is None else 1 + shades.index(shade)
            if shade is not None:
                pairs[i, shades.index(shade)] = 1
            if thing.box is not None:
                x0, y0, x1, y1 = thing.box
                centres[i] = ((x0 + x1) / 2, (y0 + y1) / 2) if counts[i] == 1 else -1
        background = np.array(self.backgrounds.index(truth.background))
        counted = np.array(truth.count)
        return dict(counts=counts, colours=colours, pairs=pairs, centres=centres, background=background, count=counted)

    def _draw(self, rng: np.random.Generator, split: Split) -> Truth:
        """Draw what is in a scene, without regard to splits and positions."""
        background = _one(rng, self._ground(rng))
        kind = "held-out" if split == "held-out" else self._kinds[rng.choice(len(self._kinds), p=self._shares)]
        match kind:
            case "held-out" | "tail":
                pool = HELD_OUT if kind == "held-out" else TAIL
                return Truth(kind, (Thing(pool[rng.integers(len(pool))].name),), background)
            case "single":
                return Truth(kind, (Thing(_one(rng, self.nouns)),), background)
            case "colour":
                return Truth(kind, (self._painted(rng, _one(rng, self.paintable)),), background)
            case "counting":
                thing = Thing(_one(rng, self.countable))
                if thing.noun in self.paintable and rng.random() < self.config.counting_colour:
                    thing = self._painted(rng, thing.noun)
                return Truth(kind, (thing,) * _one(rng, list(COUNTS)), background)
            case "attribution":
                first, second = rng.choice(len(self.paintable), 2, replace=False)
                pair = self._painted(rng, self.paintable[first]), self._painted(rng, self.paintable[second])
                return Truth(kind, pair, background)
            case _:
                first, second = rng.choice(len(self.nouns), 2, replace=False)
                relation = _one(rng, list(RELATIONS)) if kind == "position" else None
                return Truth(kind, (Thing(self.nouns[first]), Thing(self.nouns[second])), background, relation)

    def _ground(self, rng: np.random.Generator) -> list[str]:
        if not (self.plain and self.textures):
            return self.backgrounds
        return self.plain if rng.random() < self.config.plain_share else self.textures

    def _painted(self, rng: np.random.Generator, noun: str) -> Thing:
        return Thing(noun, _one(rng, list(nouns()[noun].colours)))

    def _sensible(self, truth: Truth) -> bool:
        """Nothing is drawn on a plain background of its own colour, where nobody could see it."""
        return all(seen_colour(thing) != truth.background for thing in truth.objects)


def reserved(truth: Truth) -> bool:
    """Whether a combination of things and background is kept for new captions, in every world."""
    return int.from_bytes(blake2b(truth.combination.encode(), digest_size=8).digest(), "big") % RESERVED == 0


def _one(rng: np.random.Generator, options: list[T]) -> T:
    return options[rng.integers(len(options))]
