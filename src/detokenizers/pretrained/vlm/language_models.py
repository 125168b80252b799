"""Language models to be given visual words: a published one, or a small Qwen2 of the world's words.

config -build-> (language model, its tokenizer), of which `grow` makes one that writes images
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from ...checkpoint import resolve, save_tensors
from ...config import Config
from ..weights.models import PATTERNS, load_model, readable
from .transformer_size import TransformerSize
from .visual_vocabulary import ChatPrompts, PlainPrompts, Prompts
from .word_tokenizer import word_tokenizer


class SmallQwen(TransformerSize):
    """A `Qwen2ForCausalLM` with random weights, over a closed vocabulary of words."""

    kind: Literal["small_qwen"] = "small_qwen"
    hidden: int = 192
    layers: int = 6
    heads: int = 6
    intermediate: int | None = 512
    longest: int = 256
    """Positions it is meant for."""
    prompts: Prompts = PlainPrompts()

    def build(self, words: Iterable[str]) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        tokenizer = word_tokenizer(words)
        special: dict[str, Any] = {
            f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")
        }
        config = Qwen2Config(
            vocab_size=len(tokenizer),
            max_position_embeddings=self.longest,
            tie_word_embeddings=True,
            **self.blocks(),
            **special,
        )
        return Qwen2ForCausalLM(config), tokenizer


class PublishedLanguageModel(Config):
    """A language model in a folder or on the Hub, with its chat template."""

    kind: Literal["published"] = "published"
    name: str = "Qwen/Qwen2.5-7B-Instruct"
    prompts: Prompts = ChatPrompts()

    def build(self, words: Iterable[str]) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Load it; `words` are not asked for, it knows its own.

        Raises:
            ValueError: nothing is there, or it is no language model.
        """
        return load_language_model(resolve(self.name, PATTERNS))


def load_language_model(
    folder: Path, *, dtype: torch.dtype = torch.float32
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A language model and the tokenizer that was saved beside it.

    For a generic tokenizer transformers takes the class of the language model's type instead, which splits words
    otherwise.

    Raises:
        ValueError: the folder holds no such model.
    """
    kind: Any = AutoModelForCausalLM
    model = load_model(kind, folder, dtype=dtype)
    with readable(f"{folder} has no readable tokenizer"):
        settings = get_tokenizer_config(str(folder), local_files_only=True)
        generic = settings.get("tokenizer_class") in ("TokenizersBackend", "PreTrainedTokenizerFast")
        words: Any = PreTrainedTokenizerFast if generic else AutoTokenizer
        return model, words.from_pretrained(str(folder), local_files_only=True)


LanguageModel = Annotated[SmallQwen | PublishedLanguageModel, Field(discriminator="kind")]


def save_language_model(model: Any, words: PreTrainedTokenizerBase, folder: Path, *, dtype: torch.dtype) -> None:
    """Write a language model as `from_pretrained` reads it; a head tied to the embeddings is stored once."""
    model.config.save_pretrained(folder)
    words.save_pretrained(folder)
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    state = {name: value for name, value in model.state_dict().items() if name not in tied}
    save_tensors(folder / "model.safetensors", state, dtype=dtype)
