"""How well a VLM understands images, measured on the embedded world, where the truth of every scene is known.

pictures -VLM-> captions ; captions, truths -understanding-> share exactly right, overall and by kind of scene; recall
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from ..checkpoint import write_text
from ..data.marks import is_captions, require_writable
from ..data.pictures import pictures, truths
from ..data.world.scenes import Truth, caption, parse
from ..data.world.world import Split, World
from ..device import device_of
from ..pretrained.vlm.loading import load_vlm
from .results import Metric, Result, mean_of
from .world_judge import share

RECALL = Metric("words recalled", "higher")
RESAMPLES = 1000


class Described(NamedTuple):
    """Captions by image, and their scores where the truth is known."""

    captions: dict[str, str]
    scores: dict[str, Result]


def describe(
    images: Sequence[Path] = (),
    *,
    world: int = 0,
    split: Split = "validation",
    vlm: str = "mini",
    question: str | None = None,
    max_tokens: int = 64,
    batch: int = 32,
    device: str = "auto",
    out: Path | None = None,
) -> Described:
    """Captions of pictures, or of scenes of the world, by a VLM; greedy.

    Args:
        images: pictures and folders of pictures.
        world, split: this many scenes of a split instead.
        vlm: `mini`, a folder, or a Hub id of a Janus.
        question: what a VLM with a chat template is asked about each image; to describe it unless given.
        out: a .jsonl file to write, one line of `id` and `caption` an image.
    """
    if out and out.suffix != ".jsonl":
        raise ValueError(f"--out {out} must be a .jsonl file; it holds one line an image")
    if out and out.exists() and not is_captions(out):
        raise ValueError(f"{out} was not written by detok describe and would be lost; choose another --out")
    if out:
        require_writable(out.parent)
    model = load_vlm(vlm, device=device_of(device))
    read: Any = getattr(model, "describe", None)
    if read is None:
        raise ValueError(
            f"a {type(model).__name__} only draws; name a Janus (`mini`, or deepseek-community/Janus-Pro-7B)"
        )
    found = pictures(images, world, model.tokenizer.image_size, batch, split)
    captions: dict[str, str] = {}
    for ids, some in tqdm(found.batches, desc="describing", total=len(found.chunks), disable=None):
        captions |= dict(zip(ids, read(some, question, max_tokens=max_tokens)))
    if out:
        rows = [{"id": id, "caption": text, "vlm": vlm} for id, text in captions.items()]
        write_text(out, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))
    return Described(captions, understanding(list(captions.values()), truths(World(), world, split)) if world else {})


def understanding(captions: Sequence[str], truths: Sequence[Truth]) -> dict[str, Result]:
    """Metrics of captions against what the scenes show.

    Args:
        captions: one per scene, as the VLM wrote it.
        truths: what each scene shows.

    Returns:
        `exact`, one share for every kind of scene there is, and `recall`.
    """
    if len(captions) != len(truths) or not truths:
        raise ValueError(f"{len(captions)} captions for {len(truths)} scenes; give one per scene, and at least one")
    right = [same(text, truth) for text, truth in zip(captions, truths)]
    found = {"exact": share("captions exactly right", right)}
    for kind in sorted({truth.kind for truth in truths}):
        found[kind] = share(kind, [one for one, truth in zip(right, truths) if truth.kind == kind])
    recalled = torch.tensor([recall(text, caption(truth)) for text, truth in zip(captions, truths)])
    return {**found, "recall": mean_of(RECALL, recalled, RESAMPLES, 0)}


def same(text: str, truth: Truth) -> bool:
    """Whether a caption states the truth: objects with their colours, number, relation and background.

    The order of two objects matters only where a relation stands between them.
    """
    try:
        read = parse(text)
    except ValueError:
        return False
    return stated(read) == stated(parse(caption(truth)))


def stated(truth: Truth) -> tuple[object, ...]:
    """What a caption states, in an order that does not matter where the caption's does not."""
    things: list[tuple[str, str]] = [(thing.noun, thing.colour or "") for thing in truth.objects]
    return (tuple(things) if truth.relation else tuple(sorted(things)), truth.relation, truth.background)


def recall(text: str, truth: str) -> float:
    """Share of the truth's words that the caption has, each counted as often as it stands there."""
    rest, found = text.split(), 0
    for word in truth.split():
        if word in rest:
            rest.remove(word)
            found += 1
    return found / len(truth.split())
