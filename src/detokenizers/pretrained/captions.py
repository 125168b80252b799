"""Caption embeddings for LlamaGen: 120 positions of T5 features, valid ones on the right.

prompts -clean, T5 encoder-> features [b 120 c], right-padded -rotate-> left-padded, zero at padding.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase, T5EncoderModel


class Captions(NamedTuple):
    """Left-padded caption features, zero at padding."""

    features: Float[Tensor, "b l c"]
    visible: Bool[Tensor, "b l"]


class CaptionEncoder(Protocol):
    """Where caption features come from; ten gigabytes of T5, or a table made earlier."""

    def __call__(self, prompts: Sequence[str]) -> Captions: ...


def left_padded(features: Float[Tensor, "b l c"], visible: Bool[Tensor, "b l"]) -> Captions:
    """Move right-padded features to the right edge, in their order, and zero the padding."""
    order = visible.int().argsort(dim=1, stable=True)
    moved = features.gather(1, order[..., None].expand_as(features))
    seen = visible.gather(1, order)
    return Captions(moved * seen[..., None], seen)


def clean_caption(caption: str) -> str:
    """Lower case, entities resolved, web addresses and surplus spaces removed."""
    # PAPER GAP (docs/dcdd.md#llamagen): the official cleaning also repairs mojibake (ftfy) and strips HTML and CJK
    # (bs4, regular expressions); for captions without those the result is the same.
    text = unicodedata.normalize("NFKC", html.unescape(html.unescape(caption)))
    text = re.sub(r"\b(?:https?://|www\.)\S+", "", text)
    return " ".join(text.lower().split())


class T5Captions(nn.Module):
    """A frozen T5 encoder (flan-t5-xl at full size) as `CaptionEncoder`."""

    def __init__(self, encoder: T5EncoderModel, words: PreTrainedTokenizerBase, length: int = 120) -> None:
        super().__init__()
        self.encoder = encoder.eval().requires_grad_(False)
        self.words = words
        self.length = length

    @classmethod
    def from_pretrained(cls, name: str | Path, *, dtype: torch.dtype = torch.float32) -> Self:
        """Load a T5 encoder and its tokenizer from a folder or Hub id."""
        source, local = str(name), Path(name).is_dir()
        try:
            encoder = T5EncoderModel.from_pretrained(source, dtype=dtype, local_files_only=local)
            return cls(encoder, AutoTokenizer.from_pretrained(source, local_files_only=local))
        except (OSError, RuntimeError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            raise ValueError(f"cannot load the T5 caption encoder from {source}: {first}") from None

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> Captions:  # pyright: ignore[reportIncompatibleVariableOverride]
        coded = self.words(
            [clean_caption(prompt) for prompt in prompts], max_length=self.length, padding="max_length",
            truncation=True, padding_side="right", return_tensors="pt",
        ).to(self.encoder.device)  # fmt: skip
        features = self.encoder(input_ids=coded["input_ids"], attention_mask=coded["attention_mask"])
        return left_padded(features.last_hidden_state, coded["attention_mask"].bool())


class StoredCaptions:
    """Caption features computed earlier, by prompt: `{prompt: features [n c]}` of the valid positions only."""

    def __init__(self, table: dict[str, Float[Tensor, "n c"]], length: int = 120) -> None:
        self.table = table
        self.length = length

    def __call__(self, prompts: Sequence[str]) -> Captions:
        if missing := [prompt for prompt in prompts if prompt not in self.table]:
            raise ValueError(f"no stored caption features for {missing[0]!r} ({len(missing)} prompts in all)")
        rows = [self.table[prompt][: self.length] for prompt in prompts]
        features = torch.stack([torch.cat([row, row.new_zeros(self.length - len(row), row.shape[1])]) for row in rows])
        visible = torch.tensor([[place < len(row) for place in range(self.length)] for row in rows])
        return left_padded(features, visible.to(features.device))
