"""Caption embeddings for LlamaGen: 120 positions of T5 features, valid ones on the right.

prompts -clean, T5 encoder-> features [b 120 c], right-padded -rotate-> left-padded, zero at padding.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase, T5EncoderModel

from ...checkpoint import resolve
from ..weights.models import PATTERNS, load_model, readable

log = logging.getLogger(__name__)


class Captions(NamedTuple):
    """Left-padded caption features, zero at padding."""

    features: Float[Tensor, "b l c"]
    visible: Bool[Tensor, "b l"]


class CaptionEncoder(Protocol):
    """Where caption features come from."""

    def check(self, prompts: Sequence[str]) -> None:
        """Refuse what is no caption, and log what is read in part."""
        ...

    def __call__(self, prompts: Sequence[str]) -> Captions: ...


def left_padded(features: Float[Tensor, "b l c"], visible: Bool[Tensor, "b l"]) -> Captions:
    """Move right-padded features to the right edge, in their order, and zero the padding."""
    order = visible.int().argsort(dim=1, stable=True)
    moved = features.gather(1, order[..., None].expand_as(features))
    seen = visible.gather(1, order)
    return Captions(moved * seen[..., None], seen)


def clean_caption(caption: str) -> str:
    """The cleaning LlamaGen's captions went through in training, twice over as there.

    It repairs broken encodings, drops markup, addresses, file names, CJK characters and shop talk, and lower-cases.
    LlamaGen has it from DeepFloyd IF by way of PixArt, and diffusers carries it for IF.

    Raises:
        ValueError: the packages it needs are not installed.
    """
    # PAPER GAP (docs/dcdd.md#llamagen): LlamaGen also trims in the middle of a pass, which only shows where several
    # signs such as "--" stand at the very edge of a caption.
    if missing := [package for package in ("ftfy", "bs4") if find_spec(package) is None]:
        raise ValueError(
            f"LlamaGen's captions are not cleaned without {' and '.join(missing)}; pip install 'detokenizers[llamagen]'"
        )
    from diffusers import IFPipeline

    for _ in range(2):
        caption = IFPipeline._clean_caption(IFPipeline, caption)  # pyright: ignore[reportArgumentType]
    return caption


def lost_letters(prompt: str) -> set[str]:
    """Letters of a prompt that its cleaning drops altogether."""
    letters = {letter for letter in unicodedata.normalize("NFKC", prompt).lower() if letter.isalpha()}
    return letters - set(clean_caption(prompt))


def log_some(prompts: Sequence[str], what: str) -> None:
    """Log what happened to some prompts, naming the first."""
    if prompts:
        log.warning("%d of the prompts are %s, the first: %.60r...", len(prompts), what, prompts[0])


class T5Captions(nn.Module):
    """A frozen T5 encoder (flan-t5-xl at full size) as `CaptionEncoder`."""

    def __init__(self, encoder: T5EncoderModel, words: PreTrainedTokenizerBase, length: int = 120) -> None:
        super().__init__()
        self.encoder = encoder.eval().requires_grad_(False)
        self.words = words
        self.length = length
        self.checked: set[str] = set()

    @classmethod
    def from_pretrained(cls, name: str | Path, *, dtype: torch.dtype = torch.float32) -> Self:
        """Load a T5 encoder and its tokenizer from a folder or Hub id."""
        folder = resolve(name, PATTERNS)
        with readable(f"{folder} has no readable T5 tokenizer"):
            words = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return cls(load_model(T5EncoderModel, folder, dtype=dtype), words)

    def check(self, prompts: Sequence[str]) -> None:
        """Log, once, the prompts whose end is cut off or of which something is not read.

        Raises:
            ValueError: a prompt of which nothing is left after the cleaning, or nothing that T5 knows.
        """
        fresh = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self.checked]
        coded = {prompt: self.words(clean_caption(prompt), verbose=False)["input_ids"] for prompt in fresh}
        special = set(self.words.all_special_ids)
        for prompt, ids in coded.items():
            if special.issuperset(ids):
                raise ValueError(
                    f"nothing is left of the prompt {prompt[:50]!r} for LlamaGen, whose cleaning drops CJK characters, "
                    "addresses and markup and whose T5 reads English; word it otherwise"
                )
        self.checked.update(fresh)
        log_some(
            [prompt for prompt, ids in coded.items() if len(ids) > self.length],
            f"longer than the {self.length} tokens that LlamaGen reads and lost their ends",
        )
        log_some(
            [prompt for prompt, ids in coded.items() if self.words.unk_token_id in ids or lost_letters(prompt)],
            "read in part, LlamaGen dropping or not knowing some of their characters",
        )

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> Captions:  # pyright: ignore[reportIncompatibleVariableOverride]
        self.check(prompts)
        coded = self.words(
            [clean_caption(prompt) for prompt in prompts], max_length=self.length, padding="max_length",
            truncation=True, padding_side="right", return_tensors="pt",
        ).to(self.encoder.device)  # fmt: skip
        features = self.encoder(input_ids=coded["input_ids"], attention_mask=coded["attention_mask"])
        return left_padded(features.last_hidden_state, coded["attention_mask"].bool())
