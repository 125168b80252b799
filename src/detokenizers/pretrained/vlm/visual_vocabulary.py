"""Visual words in a language model's vocabulary: one new row for each code, and two that open and close an image.

They are drawn from the normal distribution that the model's own word embeddings have. Transformers' resizing announces
that and draws with a covariance of 1e-9 of it, so that in bfloat16 all new rows are one (spec 3.2).

language model -grow-> the same with rows <v>_0 .. <v>_N, BOI, EOI ; prompt -Prompts-> ids ending in BOI
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from detokenizers.config import Config

MULTIPLE = 128
"""Matrices are padded to a multiple of so many rows, for fast kernels."""


class PlainPrompts(Config):
    """BOS (if there is one) and the words: for small models without a chat template."""

    kind: Literal["plain"] = "plain"

    def ids(self, tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
        words: Any = tokenizer(prompt, add_special_tokens=False)["input_ids"] if prompt else []
        start: Any = tokenizer.bos_token_id
        return [*([] if start is None else [start]), *words]


class ChatPrompts(Config):
    """One user turn of the chat template, and the opening of the answer. Without a prompt the turn is empty."""

    kind: Literal["chat"] = "chat"

    def ids(self, tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
        turn: Any = [{"role": "user", "content": prompt}]
        spelt = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        words: Any = tokenizer(str(spelt), add_special_tokens=False)["input_ids"]
        return list(words)


Prompts = Annotated[PlainPrompts | ChatPrompts, Field(discriminator="kind")]


class VisualVocabulary(Config):
    """Which rows of a language model's matrices are visual words; `visual_vocabulary.yaml` beside its weights."""

    first: int
    """Row of code 0. It is the number of rows the model had, not of words its tokenizer knows: matrices are padded."""
    codes: int
    prompts: Prompts = ChatPrompts()
    guidance: float = 1.0
    """Weight of classifier-free guidance unless a caller asks for another."""
    tokenizer: str | None = None
    """The MaDiT whose codes they are, by folder or embedded name; `None` if the tokenizer lies beside the weights."""

    @property
    def boi(self) -> int:
        """Opens an image."""
        return self.first + self.codes

    @property
    def eoi(self) -> int:
        """Closes an image."""
        return self.boi + 1

    @property
    def rows(self) -> int:
        """Of the grown matrices, padding included."""
        return -(-(self.eoi + 1) // MULTIPLE) * MULTIPLE

    def spelt(self, tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
        """What a prompt is to the model: its words, then BOI. The empty prompt is the unconditional side."""
        return [*self.prompts.ids(tokenizer, prompt), self.boi]


@torch.no_grad()
def grow(
    model: PreTrainedModel,
    codes: int,
    *,
    prompts: PlainPrompts | ChatPrompts | None = None,
    known: int | None = None,
    seed: int = 0,
    scale: float = 1.0,
    guidance: float = 1.0,
) -> VisualVocabulary:
    """Append visual words to a language model in place.

    Args:
        model: a `Qwen2ForCausalLM`, `LlamaForCausalLM` or their like.
        codes: how many.
        prompts: how prompts are spelt; by the chat template unless another way is given.
        known: rows that real words use, `len(tokenizer)`; padding rows behind them do not belong to the distribution.
        seed: of the new rows.
        scale: times the spread of the old rows; the paper's is 1, and 0 starts all at their mean.
        guidance: what the model is to draw with.
    """
    old = len(tables(model)[0])
    vocabulary = VisualVocabulary(first=old, codes=codes, prompts=prompts or ChatPrompts(), guidance=guidance)
    model.resize_token_embeddings(vocabulary.rows, mean_resizing=False)
    entrance, leaving = tables(model)
    for number, table in enumerate([entrance] if leaving is entrance else [entrance, leaving]):
        new = normal_rows(table[: known or old], vocabulary.rows - old, seed=seed + number, scale=scale)
        table[old:] = new.to(table)
    return vocabulary


def normal_rows(table: Float[Tensor, "r e"], count: int, *, seed: int, scale: float = 1.0) -> Float[Tensor, "k e"]:
    """Rows from the multivariate normal with the mean and covariance of a table's rows, in fp64.

    By eigenvectors rather than Cholesky factors, since a table of fewer rows than columns has a singular covariance.
    """
    rows = table.detach().double().cpu()
    mean = rows.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(rows.T))
    normal = torch.randn(count, len(mean), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return mean + scale * (normal * values.clamp_min(0).sqrt()) @ vectors.T


def tables(model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """The matrices of a language model's word embeddings and of its head, which are one where they are tied."""
    entrance: Any = model.get_input_embeddings()
    leaving: Any = model.get_output_embeddings()
    return entrance.weight, leaving.weight
