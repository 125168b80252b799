"""Codebook usage of what a VLM drew: the tokens that `detok generate` keeps, counted.

OUT/tokens/ID.safetensors -ids-> CodebookUsage of the VLM's codebook -> share used, perplexity
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..checkpoint import load_tensors, notes_in
from ..pretrained.vlm.loading import load_tokenizer
from .codebook_usage import CodebookUsage
from .measures import Scores
from .results import Metric, measured
from .same_tokens import tokens_beside


def codebook_scores(home: Path, ids: Sequence[str], decoders: Sequence[str]) -> dict[str, Scores]:
    """Usage and perplexity; the same for every decoder of a folder, because they draw from the same tokens."""
    tokens = tokens_beside(home / "any")
    if tokens is None:
        raise ValueError(f"codebook counts tokens, and {home} keeps none; judge a folder that `detok generate` left")
    paths = [tokens / f"{id}.safetensors" for id in ids]
    vlm = notes_in(paths[0]).get("vlm", "mini")
    usage = CodebookUsage.of(load_tensors(paths[0])["ids"], len(load_tokenizer(vlm).codebook))
    for path in paths[1:]:
        usage.update(load_tensors(path)["ids"])
    scores = {
        "codebook_usage": measured(Metric("codes used", "higher"), usage.usage, tokens=usage.total),
        "codebook_perplexity": measured(Metric("code perplexity", "higher"), usage.perplexity, tokens=usage.total),
    }
    return dict.fromkeys(decoders, scores)
