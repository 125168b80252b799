"""The language of the world: what is in a scene, its caption, and the parser of captions.

truth -> caption(truth) -> "a dog left of a cat on grass" -> parse(caption) -> truth without boxes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from jaxtyping import UInt8
from numpy import ndarray

from .backgrounds import PHRASES
from .objects import COLOURS, Noun, nouns

Box = tuple[float, float, float, float]
COUNTS = {2: "two", 3: "three", 4: "four"}
RELATIONS = ("left of", "right of", "above", "below")
KINDS = ("single", "tail", "colour", "two", "position", "counting", "attribution")
_A_DESPITE_VOWEL = ("unicorn", "euro", "one-piece")
_AN_DESPITE_CONSONANT = ("hourglass", "x-ray")


class Thing(NamedTuple):
    """One object of a scene; `colour` is None when the caption names none, `box` = (x0, y0, x1, y1) in [0, 1]."""

    noun: str
    colour: str | None = None
    box: Box | None = None


@dataclass(frozen=True)
class Truth:
    """All there is to know about a scene: enough to caption it, to draw it at any resolution, and to judge a picture of it.

    `kind` is one of KINDS or "held-out"; with `relation` the first object is (left of, ...) the second. `offset` is the
    position of the frame in the background's tile, in frames. What `parse` returns has no boxes.
    """

    kind: str
    objects: tuple[Thing, ...]
    background: str
    relation: str | None = None
    offset: tuple[float, float] = (0.0, 0.0)

    @property
    def count(self) -> int:
        return len(self.objects)

    @property
    def combination(self) -> str:
        """What new captions are new in: the nouns with the colours they are seen in, how many, and the background.

        It leaves out wording and order, so "a dog left of a cat" is as new as "a cat and a dog".
        """
        things = sorted(f"{seen_colour(thing) or 'plain'} {thing.noun}" for thing in self.objects)
        return " + ".join([*things, self.background])


@dataclass(frozen=True)
class Scene:
    """A picture, its caption, and what is in it."""

    image: UInt8[ndarray, "h w 3"]
    caption: str
    truth: Truth


def seen_colour(thing: Thing) -> str | None:
    """The named colour an object is seen in: an apple that nobody painted is red."""
    return thing.colour or nouns()[thing.noun].native


def caption(truth: Truth) -> str:
    """The scene in the literal words of the grammar."""
    first, *rest = truth.objects
    ground = PHRASES[truth.background]
    if not rest:
        return f"{_phrase(first)} {ground}"
    if truth.relation:
        return f"{_phrase(first)} {truth.relation} {_phrase(rest[0])} {ground}"
    if all(thing[:2] == first[:2] for thing in rest):
        words = [COUNTS[truth.count], first.colour, nouns()[first.noun].plural]
        return f"{' '.join(w for w in words if w)} {ground}"
    return f"{_phrase(first)} and {_phrase(rest[0])} {ground}"


def parse(text: str) -> Truth:
    """Read a caption back, for judging free prompts.

    Raises:
        ValueError: the text is not in the grammar, with the part that was not understood.
    """
    words = " ".join(text.lower().strip().rstrip(".").split())
    for background, ground in sorted(PHRASES.items(), key=lambda item: -len(item[1])):
        if words.endswith(f" {ground}"):
            return _parsed(words.removesuffix(f" {ground}"), background)
    raise ValueError(f"{text!r} does not end in a background such as 'on grass' or 'on a blue background'")


def _parsed(text: str, background: str) -> Truth:
    if thing := _things().get(text):
        role = nouns()[thing.noun].role
        kind = role if role != "core" else "colour" if thing.colour else "single"
        return Truth(kind, (thing,), background)
    number, _, several = text.partition(" ")
    for count, word in COUNTS.items():
        if number == word and (thing := _several().get(several)):
            return Truth("counting", (thing,) * count, background)
    for link in (*RELATIONS, "and"):
        left, _, right = text.partition(f" {link} ")
        if (first := _things().get(left)) and (second := _things().get(right)):
            if link != "and":
                return Truth("position", (first, second), background, link)
            if first == second:
                raise ValueError(f"{text!r} names the same object twice; write 'two ...' instead")
            return Truth("attribution" if first.colour or second.colour else "two", (first, second), background)
    raise ValueError(f"{text!r} is none of: 'a red apple', 'two apples', 'a dog and a cat', 'a dog left of a cat'")


def _phrase(thing: Thing) -> str:
    noun = nouns()[thing.noun]
    words = f"{thing.colour} {noun.name}" if thing.colour else noun.name
    return words if noun.mass else f"{_article(words)} {words}"


def _article(words: str) -> str:
    vowel = words[0] in "aeiou" and not words.startswith(_A_DESPITE_VOWEL)
    return "an" if vowel or words.startswith(_AN_DESPITE_CONSONANT) else "a"


def _shades(noun: Noun) -> tuple[Thing, ...]:
    return (Thing(noun.name), *(Thing(noun.name, colour) for colour in noun.colours))


@lru_cache(1)
def _things() -> dict[str, Thing]:
    return {_phrase(thing): thing for noun in nouns().values() for thing in _shades(noun)}


@lru_cache(1)
def _several() -> dict[str, Thing]:
    shades = [(noun, thing) for noun in nouns().values() if not noun.mass for thing in _shades(noun)]
    return {f"{thing.colour} {noun.plural}" if thing.colour else noun.plural: thing for noun, thing in shades}


def words() -> set[str]:
    """Every word that is not an object's name."""
    grounds = " ".join(PHRASES.values())
    return {"a", "an", "and", *COUNTS.values(), *COLOURS, *" ".join(RELATIONS).split(), *grounds.split()}
