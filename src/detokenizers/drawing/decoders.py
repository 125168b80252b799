"""What draws on one sheet: decoders of the same tokens, and models that draw from the prompts themselves.

names | objects -load_decoders-> {label: decoder} -observers_of-> {name: observer}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .. import papers
from ..data.marks import SHEETS, TABLE, TOKENS, WRITTEN
from ..decoder import CodeDecoder, FeatureDecoder
from ..peers import SIGNS
from ..protocols import Decoder, Observe, TextToImage, VisualTokenizer
from .gallery import ORIGINAL

BASELINE = "vq"
"""The VLM's own decoder."""
CEILING = "vq-unrounded"
"""The same on features that were not rounded to codes; it can reconstruct but not generate."""
CONFIDENCE = "confidence"
RESERVED = (TOKENS, ORIGINAL, *SHEETS, *WRITTEN, TABLE, SIGNS, "..")
PLAIN = {BASELINE: CodeDecoder, CEILING: FeatureDecoder}

Drawer = Decoder | TextToImage
Named = str | Sequence[str] | Mapping[str, str | Drawer]
"""Names of decoders, or decoders (and names of some) by the labels that they get."""


def labelled(decoders: Named) -> list[tuple[str, str | Drawer]]:
    """Decoders with their labels, which are also the names of their folders."""
    if isinstance(decoders, Mapping):
        return list(decoders.items())
    names = (decoders,) if isinstance(decoders, str) else decoders
    lasts = [(PurePath(name).name, name) for name in names]
    return [(Path(name).resolve().name if last in ("", "..") else last, name) for last, name in lasts]


def load_decoders(
    asked: Sequence[tuple[str, str | Drawer]],
    tokenizer: Callable[[], VisualTokenizer],
    device: torch.device,
    vlm: str | None = None,
) -> dict[str, Drawer]:
    """Decoders by label; those that are given by name are loaded.

    Args:
        tokenizer: of the VLM; it is asked for if one draws from tokens.
        vlm: a name that somebody gave; models that draw from prompts must have been made for that VLM.

    Raises:
        ValueError: no such decoder, one made for another codebook or VLM, or the same one twice.
    """
    decoders: dict[str, Drawer] = {}
    for label, one in asked:
        if label in decoders or label in RESERVED or PurePath(label).name != label:
            raise ValueError(
                f"a decoder cannot be called {label!r}, that folder is taken; name each once, or rename one"
            )
        decoder: Any = loaded(one, tokenizer, device) if isinstance(one, str) else one
        given = tokenizer() if decoder.source == "tokens" else vlm
        try:
            if given is not None:
                decoder.require(given)
        except ValueError as error:
            raise ValueError(f"{one if isinstance(one, str) else label}: {error}") from None
        decoders[label] = decoder
    if not decoders:
        raise ValueError(f"there is no decoder; --decoder takes {', '.join(PLAIN)}, mini/dcdd and run folders")
    return decoders


def loaded(name: str, tokenizer: Callable[[], VisualTokenizer], device: torch.device) -> Drawer:
    """The VLM's own decoder, its ceiling, or whatever `papers.load` finds."""
    return PLAIN[name](tokenizer()) if name in PLAIN else papers.load(name, device=device)


def of_tokens(decoders: Mapping[str, Drawer]) -> dict[str, Decoder]:
    """Those that draw from tokens."""
    return {label: one for label, one in decoders.items() if one.source == "tokens"}


def of_pictures(decoders: Mapping[str, Drawer], tokenizer: VisualTokenizer) -> dict[str, Decoder]:
    """What draws pictures again: decoders of tokens, and the reader of a model that draws from prompts.

    Raises:
        ValueError: a model reads no pictures, or on another grid than this tokenizer's.
    """
    found: dict[str, Decoder] = {}
    for label, one in decoders.items():
        reader = one if one.source == "tokens" else one.reader
        if reader is None:
            raise ValueError(f"{label} draws from prompts, not from pictures; use it with generate")
        reader.require(tokenizer)
        found[label] = reader
    return found


def steps_of(asked: int | None, decoders: Mapping[str, Drawer]) -> dict[str, int]:
    """Sampling steps by label, of the decoders that sample: those asked for, or else each one's own."""
    return {label: asked or one.steps for label, one in decoders.items() if one.steps is not None}


def steps_note(steps: Mapping[str, int]) -> str:
    """Sampling steps as a sheet shows them."""
    return (
        ", ".join(f"{label}: {count} step{'s' if count != 1 else ''}" for label, count in steps.items())
        or "no sampling steps"
    )


def observers_of(decoders: Mapping[str, Decoder]) -> dict[str, Observe]:
    """What is kept of every distribution while a VLM samples: all that these decoders draw from, and the confidence for
    the heat map.

    Raises:
        ValueError: a decoder draws from what only a picture has.
    """
    for label, decoder in decoders.items():
        if lacking := decoder.needs - decoder.observers.keys():
            raise ValueError(
                f"{label} draws from the {', '.join(sorted(lacking))} of pictures, which a VLM does not sample; "
                "use it with reconstruct"
            )
    observers = [decoder.observers for decoder in decoders.values()]
    return {CONFIDENCE: confidence, **{name: one for mapping in observers for name, one in mapping.items()}}


def confidence(logits: Float[Tensor, "b v"], sampled: Int[Tensor, "b"]) -> Float[Tensor, "b 1"]:
    """The largest probability of each distribution."""
    return logits.softmax(-1).amax(-1, keepdim=True)
