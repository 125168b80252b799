"""What `detok generate --bench` draws, and where official scripts look for it.

A picture's id is its path below the decoder's folder, and with --seed it decides the draw: a prompt and a sample number
always give the same picture. What is not a picture (GenEval's metadata, DPG's grids) is made when all are there.

    geneval  DECODER/00000/samples/0000.png, DECODER/00000/metadata.jsonl      four pictures a prompt
    dpg      DECODER/samples/ITEM-0.png, DECODER/grids/ITEM.png                four pictures an item, 2x2
    mjhq     DECODER/CATEGORY/ID.png                                           one picture a prompt
    world    DECODER/TASK/0000.png                                             equal numbers a task

--bench, --bench-file -layout_of-> Layout(pictures) -drawn-> finish
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from PIL import Image

from ..checkpoint import write_text
from ..data.images import save_png, upright
from ..data.prompts import Prompt
from ..data.world.scenes import caption
from ..data.world.world import World, WorldConfig
from ..evaluation.benchmarks import dpg_questions as dpg
from ..evaluation.benchmarks import geneval_prompts as geneval
from ..evaluation.benchmarks.mjhq import read_mjhq
from ..evaluation.evaluation_settings import Bench, official_file
from .drawing_settings import GenerateConfig
from .gallery import Gallery

KINDS = {
    "single_object": "single",
    "two_object": "two",
    "counting": "counting",
    "colors": "colour",
    "position": "position",
    "color_attr": "attribution",
}
"""GenEval's tasks in the world's words."""


class Layout(Protocol):
    """The pictures of a benchmark, and what else belongs beside them."""

    @property
    def pictures(self) -> Sequence[Prompt]: ...
    def finish(self, gallery: Gallery, labels: Iterable[str]) -> None: ...


def layout_of(config: GenerateConfig) -> Layout:
    """The layout of the benchmark that is asked for.

    Raises:
        ValueError: its file is missing, unneeded or another benchmark's, or other prompts are asked for as well.
    """
    if config.text or config.prompts or config.world or config.per_prompt > 1:
        raise ValueError("--bench brings its own prompts and number of pictures; give no others beside it")
    if config.shards:
        raise ValueError("official scripts look for the pictures of a benchmark one by one; leave --shards out")
    assert config.bench
    return LAYOUTS[config.bench](config)


class GenEval:
    """Four pictures a prompt, and its line of the official file beside them."""

    def __init__(self, config: GenerateConfig) -> None:
        self.asks = geneval.read_asks(official_file("geneval", config.bench_file), partial=config.partial)
        self.pictures = [
            Prompt(f"{position:05d}/samples/{sample:04d}", ask.prompt, ask.tag)
            for position, ask in enumerate(self.asks)
            for sample in range(geneval.SAMPLES)
        ]

    def finish(self, gallery: Gallery, labels: Iterable[str]) -> None:
        """Write every prompt's metadata.jsonl."""
        for label in labels:
            for position, ask in enumerate(self.asks):
                write_text(gallery.folder / label / f"{position:05d}" / "metadata.jsonl", json.dumps(ask.record))


class DPG:
    """Four pictures an item, joined into the 2x2 grid that is scored."""

    def __init__(self, config: GenerateConfig) -> None:
        self.items = dpg.read_items(official_file("dpg", config.bench_file), partial=config.partial)
        self.pictures = [
            Prompt(f"samples/{item.id}-{sample}", item.text) for item in self.items for sample in range(dpg.SAMPLES)
        ]

    def finish(self, gallery: Gallery, labels: Iterable[str]) -> None:
        """Join the samples of each item; a grid of other samples is refused."""
        for label in labels:
            for item in self.items:
                paths = [gallery.path(label, f"samples/{item.id}-{sample}") for sample in range(dpg.SAMPLES)]
                hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
                notes, id = {"prompt": item.text, "samples": hashes}, f"{dpg.GRIDS}/{item.id}"
                if gallery.lacks(label, id, notes):
                    save_png(gallery.path(label, id), joined([upright(path) for path in paths]), notes)


class MJHQ:
    """One picture a prompt, in its category's folder."""

    def __init__(self, config: GenerateConfig) -> None:
        found = read_mjhq(official_file("mjhq", config.bench_file), partial=config.partial)
        self.pictures = [Prompt(id, one.text, one.category) for id, one in found.items()]

    def finish(self, gallery: Gallery, labels: Iterable[str]) -> None:
        """Nothing else belongs there."""


class NewCaptions:
    """GenEval's six tasks in captions of the world that no training has seen.

    Some tasks have few such captions (one object on one of seven grounds); they are drawn several times, each with its
    own seed.
    """

    def __init__(self, config: GenerateConfig) -> None:
        if config.bench_file is not None:
            raise ValueError("--bench world makes its own prompts; leave --bench-file out")
        each, rest = divmod(config.count, len(KINDS))
        if not each or rest:
            raise ValueError(
                f"--count {config.count} is not the same number for each of six tasks; ask for {6 * (each + 1)}"
            )
        captions = new_captions(each)
        self.pictures = [
            Prompt(f"{tag}/{position:04d}", captions[tag][position % len(captions[tag])], tag)
            for tag in KINDS
            for position in range(each)
        ]

    def finish(self, gallery: Gallery, labels: Iterable[str]) -> None:
        """Nothing else belongs there; the manifest holds the captions."""


def new_captions(each: int) -> dict[str, list[str]]:
    """Up to so many different new captions a task, in the order of the world's seeds."""
    world, found = World(WorldConfig()), {kind: dict[str, None]() for kind in KINDS.values()}
    for seed in range(2_000 + 40 * each):  # finds nearly all that a rare task has
        truth = world.truth(seed, "new-captions")
        if len(known := found.get(truth.kind, {})) < each:
            known[caption(truth)] = None
        if all(len(one) == each for one in found.values()):
            break
    return {tag: list(found[kind]) for tag, kind in KINDS.items()}


def joined(pictures: Sequence[Image.Image]) -> Image.Image:
    """Four pictures of one size as a 2x2 grid in reading order."""
    width, height = pictures[0].size
    grid = Image.new("RGB", (2 * width, 2 * height))
    for position, picture in enumerate(pictures):
        grid.paste(picture, (position % 2 * width, position // 2 * height))
    return grid


LAYOUTS: dict[Bench, Callable[[GenerateConfig], Layout]] = {
    "geneval": GenEval,
    "dpg": DPG,
    "mjhq": MJHQ,
    "world": NewCaptions,
}
