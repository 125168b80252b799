"""One prompt or one picture at a time, drawn in memory by several decoders from the same tokens, for whoever looks at
once and keeps nothing.

prompt, seed -VLM-> tokens -decoders-> Shown ; picture, seed -tokenizer-> tokens -decoders-> Shown with scores

The pictures are those that `generate` and `reconstruct` write for the same prompt or file name and seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ..data.canonical import RULE, Prepared
from ..data.images import to_pil
from ..evaluation.results import Metric, Result, measured
from ..evaluation.sheets import heat_map, tile_size
from ..evaluation.tables import table
from ..pixels import to_tensor
from ..protocols import TokenVLM, VisualTokens
from ..seeds import item_seed
from .decoders import CONFIDENCE, Drawer, observers_of, of_tokens, steps_of
from .gallery import ORIGINAL
from .items import slug
from .reconstruction import MEASURES, similarity

SECONDS = Metric("seconds", "lower")
MOST_STEPS = 8
TOKENS = "tokens"


class Step(NamedTuple):
    """A picture as it was after one of a decoder's steps."""

    label: str
    number: int
    of: int
    picture: Image.Image


@dataclass
class Shown:
    """What there is to look at."""

    pictures: dict[str, Image.Image] = field(default_factory=dict)
    """By decoder; of a reconstruction the original first."""
    heat: Image.Image | None = None
    """How uncertain the VLM was of every token."""
    steps: list[Step] = field(default_factory=list)
    """A few of every decoder that draws in steps: MaDiT's rounds, a flow's way from noise. The last is the picture."""
    scores: dict[str, dict[str, Result]] = field(default_factory=dict)
    """Seconds and, of a reconstruction, how near it is; by decoder, and for the tokens."""
    captions: dict[str, str] = field(default_factory=dict)
    """What the VLM reads in each picture, where it understands pictures."""

    def table(self) -> str:
        """The scores as Markdown."""
        return table("", self.scores)

    @contextmanager
    def timed(self, label: str) -> Iterator[None]:
        """Note how long a part takes."""
        started = perf_counter()
        yield
        self.scores[label] = {"seconds": measured(SECONDS, perf_counter() - started)}


class LiveDrawing:
    """A VLM and decoders that are loaded, and draw whenever they are asked.

    Raises:
        ValueError: a decoder draws from what only a picture has.
    """

    def __init__(self, vlm: TokenVLM, decoders: Mapping[str, Drawer]) -> None:
        self.vlm, self.decoders, self.of_tokens = vlm, decoders, of_tokens(decoders)
        self.observers = observers_of(self.of_tokens)
        self.understands = understands(vlm)

    @torch.no_grad()
    def draw(self, prompt: str, seed: int = 0, *, steps: int | None = None) -> Shown:
        """Draw a prompt by all decoders.

        Raises:
            ValueError: the VLM cannot read it.
        """
        shown, seeds = Shown(), [item_seed(seed, slug(prompt))]
        with shown.timed(TOKENS):
            tokens = self.vlm.generate(
                [prompt], seeds=seeds, observe=self.observers, batch_size=1, width=self.vlm.width([prompt])
            )
            certain = tokens.observed[CONFIDENCE].view(*tokens.grid).cpu()
        shown.heat = heat_map(1 - certain, tile_size(self.vlm.tokenizer.image_size))
        tokens = replace(tokens, captions=[prompt])
        for label, decoder in self.decoders.items():
            given = tokens if label in self.of_tokens else [prompt]
            _draw(shown, label, decoder, given, steps=self.steps(label, steps), seeds=seeds)
        self._describe(shown)
        return shown

    @torch.no_grad()
    def reconstruct(self, path: Path, seed: int = 0, *, steps: int | None = None) -> Shown:
        """Take a picture to tokens and back by the decoders that draw from tokens.

        Raises:
            ValueError: the file is no picture that can be read.
        """
        tokenizer, shown, seeds = self.vlm.tokenizer, Shown(), [item_seed(seed, path.stem)]
        shown.pictures[ORIGINAL] = Image.fromarray(Prepared(RULE, tokenizer.image_size)(path))
        original = _tensor(shown.pictures[ORIGINAL])
        for label, decoder in self.of_tokens.items():
            tokens = replace(decoder.read(original.to(tokenizer.codebook.device), tokenizer), captions=[""])
            _draw(shown, label, decoder, tokens, steps=self.steps(label, steps), seeds=seeds)
            near = similarity(_tensor(shown.pictures[label]), original)
            shown.scores[label] |= {name: measured(MEASURES[name], value.item()) for name, value in near.items()}
        self._describe(shown)
        return shown

    def steps(self, label: str, asked: int | None) -> int | None:
        """Sampling steps of a decoder; None where it has none."""
        return steps_of(asked, {label: self.decoders[label]}).get(label)

    def _describe(self, shown: Shown) -> None:
        """What the VLM reads in pictures of its own size."""
        side = self.vlm.tokenizer.image_size
        few = {label: picture for label, picture in shown.pictures.items() if picture.size == (side, side)}
        if self.understands and few:
            vlm: Any = self.vlm
            shown.captions = dict(zip(few, vlm.describe(torch.cat([_tensor(one) for one in few.values()]))))


def understands(vlm: TokenVLM) -> bool:
    """Whether a VLM also describes pictures of the size that it draws."""
    describe: Any = getattr(vlm, "describe", None)
    try:
        return describe is not None and bool(describe(torch.zeros(1, 3, *[vlm.tokenizer.image_size] * 2), max_tokens=1))
    except ValueError:
        return False


def _draw(shown: Shown, label: str, drawer: Any, given: VisualTokens | Sequence[str], **sampling: Any) -> None:
    """Draw by one decoder or model, and where it has two halves (`protocols.Halves`) keep what it had after some steps."""
    states: list[Tensor] = []

    def keep(number: int, t: Tensor, state: Tensor) -> Tensor:
        states.append(state)
        return state

    with shown.timed(label):
        if hasattr(drawer, "latents"):
            images = drawer.decode(drawer.latents(given, on_step=keep, **sampling), seeds=sampling["seeds"])
        else:
            images = drawer(given, **sampling)
        shown.pictures[label] = to_pil(images[0].cpu())
    count = len(states)
    for one in sorted({round(count * (part + 1) / MOST_STEPS) for part in range(MOST_STEPS)} - {0}):
        image = drawer.decode(states[one - 1], seeds=sampling["seeds"])[0]
        shown.steps.append(Step(label, one, count, to_pil(image.cpu())))


def _tensor(picture: Image.Image) -> Float[Tensor, "1 3 h w"]:
    return to_tensor(np.asarray(picture)[None])
