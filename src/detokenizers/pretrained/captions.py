"""Caption embeddings for LlamaGen: 120 positions of T5 features, valid ones on the right.

prompts -clean, T5 encoder-> features [b 120 c], right-padded -rotate-> left-padded, zero at padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
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
