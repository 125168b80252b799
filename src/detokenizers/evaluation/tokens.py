"""The tokens that `detok generate` keeps beside its pictures: how much of the codebook they use, and whether two
decoders drew from the same ones.

Usage and perplexity depend on how many tokens were counted: a code that no image needed yet is not dead. N is part of
the result.

OUT/tokens/ID.safetensors -ids-> counts [v] -> share of codes used, perplexity exp(H) ; of two folders -> equal or not
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from ..checkpoint import load_tensors, notes_in
from ..data.images import ImageFile
from ..data.marks import TOKENS
from ..nn.codebook import perplexity, usage
from ..pretrained.vlm.loading import load_tokenizer
from ..tars import Packed, exists
from .measures import Scores
from .results import Metric, measured


def codebook_scores(home: Path, ids: Sequence[str], decoders: Sequence[str]) -> dict[str, Scores]:
    """Usage and perplexity; the same for every decoder of a folder, because they draw from the same tokens."""
    tokens = tokens_beside(home / "any")
    if tokens is None:
        raise ValueError(f"codebook counts tokens, and {home} keeps none; measure a folder that `detok generate` left")
    packed = Packed(tokens)
    paths = [packed.path(f"{id}.safetensors") for id in ids]
    notes = notes_in(paths[0])
    # Tokens of before there was such a note name their VLM, which has to be loaded for it.
    size = notes["codes"] if "codes" in notes else len(load_tokenizer(notes.get("vlm", "mini")).codebook)
    counts = torch.stack([counted(load_tensors(path)["ids"], size) for path in paths]).sum(0)
    total = int(counts.sum())
    scores = {
        "codebook_usage": measured(Metric("codes used", "higher"), usage(counts), tokens=total),
        "codebook_perplexity": measured(Metric("code perplexity", "higher"), perplexity(counts), tokens=total),
    }
    return dict.fromkeys(decoders, scores)


def counted(ids: Int[Tensor, "..."], size: int) -> Int[Tensor, "v"]:
    """How often each code of a codebook of this size occurs."""
    if ids.min() < 0 or ids.max() >= size:
        raise ValueError(f"token ids go from 0 to {size - 1} here, got {ids.min().item()} to {ids.max().item()}")
    return torch.bincount(ids.flatten().long(), minlength=size)


def same_tokens(rows: Mapping[str, Sequence[ImageFile]], ids: Sequence[str]) -> str:
    """Whether the decoders drew from the same tokens, as far as the folders know: `yes`, `no (ID)` or `unknown`."""
    homes = [tokens_beside(files[0].path) for files in rows.values()]
    if None in homes:
        return "unknown"
    packed = [Packed(home) for home in dict.fromkeys(home for home in homes if home)]
    for id in ids:
        kept = [home.path(f"{id}.safetensors") for home in packed]
        if not all(map(exists, kept)):
            return "unknown"
        one, *more = (load_tensors(path)["ids"] for path in kept) if len(packed) > 1 else (torch.empty(0),)
        if any(not one.equal(other) for other in more):
            return f"no ({id})"
    return "yes"


def tokens_beside(picture: Path) -> Path | None:
    """The folder `tokens` that `generate` keeps beside its decoders' folders."""
    return next((folder / TOKENS for folder in picture.parents if (folder / TOKENS).is_dir()), None)
