"""The decoders a command compares, and what they all want kept of one and the same draw of the VLM.

names -load_decoders-> {label: decoder} -observers_of-> {name: observer}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TypeVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .. import papers
from ..data.marks import TOKENS
from ..decoder import CodeDecoder, FeatureDecoder
from ..protocols import Decoder, Observe, VisualTokenizer
from .gallery import ORIGINAL

BASELINE = "vq"
"""The VLM's own decoder."""
CEILING = "vq-unrounded"
"""The same on features that were not rounded to codes; it can reconstruct but not generate."""
CONFIDENCE = "confidence"
RESERVED = (TOKENS, ORIGINAL)
Item = TypeVar("Item")
PLAIN = {BASELINE: CodeDecoder, CEILING: FeatureDecoder}


def load_decoders(names: Sequence[str], tokenizer: VisualTokenizer, device: torch.device) -> dict[str, Decoder]:
    """Load decoders under short labels, which are also the names of their folders.

    Raises:
        ValueError: no such decoder, one made for another codebook, or the same one twice.
    """
    decoders: dict[str, Decoder] = {}
    for name in names:
        label = PurePath(name).name
        if label in decoders or label in RESERVED:
            raise ValueError(
                f"a decoder cannot be called {label!r}, that folder is taken; name each once, or rename one"
            )
        decoder = PLAIN[name](tokenizer) if name in PLAIN else cast(Decoder, papers.load(name, device=device))
        try:
            decoder.require(tokenizer)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        decoders[label] = decoder
    if not decoders:
        raise ValueError(f"there is no decoder; --decoder takes {', '.join(PLAIN)}, mini/dcdd and run folders")
    return decoders


def evenly(count: int, most: int) -> int:
    """Rows of every batch when `count` items go into batches of at most `most`, all of one size.

    Sizes are 1, 2 and multiples of four: with others several threads share rows out unevenly, and round differently.
    """
    wanted = -(-count // -(-count // most)) if count else 1
    rows = wanted if wanted <= 2 else -(-wanted // 4) * 4
    return rows if rows <= most else max(1, most // 4 * 4 or min(most, 2))


def filled(items: Sequence[Item], rows: int) -> list[Item]:
    """A batch of the full size, the last item again where there are too few.

    Matrix kernels are chosen by shape, and two kernels differ in the last digits; in one shape a row does not depend on
    the others.
    """
    return [*items, *[items[-1]] * (rows - len(items))]


def steps_of(asked: int | None, decoders: Mapping[str, Decoder]) -> dict[str, int]:
    """Sampling steps by label, of the decoders that sample: those asked for, or else each one's own."""
    return {label: asked or one.steps for label, one in decoders.items() if one.steps is not None}


def taken(steps: Mapping[str, int]) -> str:
    """Sampling steps as a sheet shows them."""
    return ", ".join(f"{label}: {count} steps" for label, count in steps.items()) or "no sampling steps"


def observers_of(decoders: Mapping[str, Decoder]) -> dict[str, Observe]:
    """What is kept of every distribution while a VLM samples: all that these decoders draw from, and the confidence for
    the heat map.

    Raises:
        ValueError: a decoder draws from what only a picture has.
    """
    for label, decoder in decoders.items():
        if lacking := decoder.needs - decoder.observers.keys():
            raise ValueError(
                f"{label} draws from the {', '.join(lacking)} of pictures, which a VLM does not sample; "
                "use it with reconstruct"
            )
    observers = [decoder.observers for decoder in decoders.values()]
    return {CONFIDENCE: confidence, **{name: one for mapping in observers for name, one in mapping.items()}}


def confidence(logits: Float[Tensor, "b v"], sampled: Int[Tensor, "b"]) -> Float[Tensor, "b 1"]:
    """The largest probability of each distribution."""
    return logits.softmax(-1).amax(-1, keepdim=True)
