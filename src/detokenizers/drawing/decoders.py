"""The decoders a command compares, and how several of them listen to one and the same draw of the VLM.

names -load_decoders-> {label: decoder} ; Listeners(decoders) -observe-> [b o] -split-> what each decoder is told.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePath
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..checkpoint import fingerprint, resolve
from ..data.marks import TOKENS
from ..dcdd.loading import load
from ..dcdd.model import DCDD
from ..decoder import CodeDecoder, FeatureDecoder, SpaceDecoder
from ..pretrained.spaces import VAE, holds_vae
from ..protocols import Observe, VisualTokenizer
from .gallery import ORIGINAL

BASELINE = "vq"
"""The VLM's own decoder."""
CEILING = "vq-unrounded"
"""The same on features that were not rounded to codes; it can reconstruct but not generate."""
CONFIDENCE = "confidence"
RESERVED = (TOKENS, ORIGINAL)
Item = TypeVar("Item")
Decoder = CodeDecoder | FeatureDecoder | SpaceDecoder | DCDD
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
        if name in PLAIN:
            decoders[label] = PLAIN[name](tokenizer)
            continue
        if holds_vae(name):
            decoders[label] = SpaceDecoder(VAE.from_pretrained(resolve(name))).to(device)
            continue
        decoder = load(name, device=device)
        require_same_codes(decoder, tokenizer, name)
        decoders[label] = decoder
    if not decoders:
        raise ValueError(f"there is no decoder; --decoder takes {', '.join(PLAIN)}, mini/dcdd and run folders")
    return decoders


def require_same_codes(decoder: DCDD, tokenizer: VisualTokenizer, name: str) -> None:
    """Refuse a decoder that was trained for other codes than this VLM draws with."""
    own, drawn = decoder.codebook, tokenizer.codebook.to(decoder.codebook)
    if own.shape != drawn.shape:
        raise ValueError(
            f"{name} was trained for {own.shape[0]} codes of {own.shape[1]} numbers, but this VLM has "
            f"{drawn.shape[0]} of {drawn.shape[1]}; name the --vlm it belongs to"
        )
    if not torch.allclose(own, drawn, atol=1e-2):
        raise ValueError(f"{name} was trained for another codebook of the same size; name the --vlm it belongs to")


def identity(decoder: Decoder) -> str:
    """Twelve digits that change when any weight or setting of a decoder does, its image space included."""
    if not isinstance(decoder, DCDD):
        return weights_of(decoder.state_dict())
    weights = weights_of({**decoder.state_dict(), "codebook": decoder.codebook})
    return hashlib.sha256((decoder.config.to_yaml() + weights).encode()).hexdigest()[:12]


def weights_of(tensors: Mapping[str, Tensor]) -> str:
    """Twelve digits that change when any number in these weights does.

    Every tensor has a fingerprint, and the fingerprints have one: threads share the work, a few seconds for billions.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        prints = list(pool.map(lambda name: f"{name} {fingerprint(tensors[name])}", sorted(tensors)))
    return hashlib.sha256("\n".join(prints).encode()).hexdigest()[:12]


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
    """Sampling steps of the diffusion decoders by label: those asked for, or else each one's own."""
    return {label: asked or one.config.steps for label, one in decoders.items() if isinstance(one, DCDD)}


def taken(steps: Mapping[str, int]) -> str:
    """Sampling steps as a sheet tells them."""
    return ", ".join(f"{label}: {count} steps" for label, count in steps.items()) or "no sampling steps"


class Listeners:
    """An `Observe` that passes every belief on to all decoders, and notes the largest probability for the heat map."""

    def __init__(self, decoders: Mapping[str, Decoder]) -> None:
        self.ears: dict[str, Observe] = {CONFIDENCE: confidence}
        self.ears |= {label: decoder.observe for label, decoder in decoders.items() if isinstance(decoder, DCDD)}
        self.widths: list[int] = []

    def __call__(self, logits: Float[Tensor, "b v"], drawn: Int[Tensor, "b"]) -> Float[Tensor, "b o"]:
        heard = [ear(logits, drawn) for ear in self.ears.values()]
        self.widths = [part.shape[-1] for part in heard]
        return torch.cat(heard, -1)

    def split(self, observed: Float[Tensor, "b n o"]) -> dict[str, Float[Tensor, "b n oi"]]:
        """What each one heard."""
        return dict(zip(self.ears, observed.split(self.widths, -1)))


def confidence(logits: Float[Tensor, "b v"], drawn: Int[Tensor, "b"]) -> Float[Tensor, "b 1"]:
    """The largest probability of each belief."""
    return logits.softmax(-1).amax(-1, keepdim=True)
