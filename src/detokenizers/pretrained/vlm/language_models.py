"""Language models to be given visual words: a published one, or a small Qwen2 of the world's words.

config -build-> (language model, its tokenizer), of which `grow` makes one that writes images
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from detokenizers.checkpoint import save_tensors
from detokenizers.config import Config
from detokenizers.pretrained.vlm.visual_vocabulary import ChatPrompts, PlainPrompts, Prompts
from detokenizers.pretrained.words import word_tokenizer


class SmallQwen(Config):
    """A `Qwen2ForCausalLM` with random weights, over a closed vocabulary of words."""

    kind: Literal["small_qwen"] = "small_qwen"
    hidden: int = 192
    layers: int = 6
    heads: int = 6
    intermediate: int = 512
    longest: int = 256
    """Positions it is meant for."""
    prompts: Prompts = PlainPrompts()

    def build(self, words: list[str]) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        tokenizer = word_tokenizer(words)
        config = Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads,
            max_position_embeddings=self.longest,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        return Qwen2ForCausalLM(config), tokenizer


class PublishedLanguageModel(Config):
    """A language model in a folder or on the Hub, with its chat template."""

    kind: Literal["published"] = "published"
    name: str = "Qwen/Qwen2.5-7B-Instruct"
    prompts: Prompts = ChatPrompts()

    def build(self, words: list[str]) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Load it; `words` are not asked for, it knows its own.

        Raises:
            ValueError: nothing is there, or it is no language model.
        """
        local = Path(self.name).is_dir()
        try:
            model = AutoModelForCausalLM.from_pretrained(self.name, dtype=torch.float32, local_files_only=local)
            return model, AutoTokenizer.from_pretrained(self.name, local_files_only=local)
        except (OSError, RuntimeError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            raise ValueError(f"cannot load a language model from {self.name}: {first}") from None


LanguageModel = Annotated[SmallQwen | PublishedLanguageModel, Field(discriminator="kind")]


def save_language_model(model: Any, words: PreTrainedTokenizerBase, folder: Path, *, dtype: torch.dtype) -> None:
    """Write a language model as `from_pretrained` reads it; a head tied to the embeddings is stored once."""
    model.config.save_pretrained(folder)
    words.save_pretrained(folder)
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    state = {name: value for name, value in model.state_dict().items() if name not in tied}
    save_tensors(folder / "model.safetensors", state, dtype=dtype)
