"""Turn a prompt into the ids a Janus was trained to draw from, and into their unconditional twin.

prompt -format-> ids ending in BOI -left padding-> [cond; uncond]; uncond keeps BOS and BOI, all else becomes padding.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from .janus_size import special_ids

DESCRIBE = "Describe the image in one sentence."
"""The question that a chat VLM is asked when it is given none."""


class PromptIds(NamedTuple):
    """A left-padded batch, rows [cond; uncond]."""

    ids: Int[Tensor, "r l"]
    visible: Bool[Tensor, "r l"]


class PromptFormat(Protocol):
    """How one prompt is spelt: token ids that begin with BOS and end with BOI."""

    tokenizer: PreTrainedTokenizerBase

    def ids(self, prompt: str) -> list[int]: ...
    def blank(self) -> list[int]:
        """Token ids that stand for no prompt."""
        ...

    def question(self, text: str | None, num_image_tokens: int) -> list[int]:
        """Token ids of a question about an image, whose features replace the image tokens; the answer follows."""
        ...


class PlainWords:
    """BOS, the words, BOI: the format of small VLMs without a chat template. They caption, and take no questions."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.special = special_ids(tokenizer)

    def ids(self, prompt: str) -> list[int]:
        refuse_unknown_words(self.tokenizer, prompt)
        words = self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        if not words:
            raise ValueError(f"the prompt {prompt!r} has no words; this VLM reads words and drops punctuation")
        return [self.special["bos"], *_listed(words), self.special["boi"]]

    def blank(self) -> list[int]:
        return [self.special["bos"], self.special["boi"]]

    def question(self, text: str | None, num_image_tokens: int) -> list[int]:
        if text is not None:
            raise ValueError(f"this VLM describes images and takes no questions; leave {text!r} out")
        return [self.special["image"]] * num_image_tokens + [self.special["bos"]]


class JanusChat:
    """The chat template of a full-size Janus, one user turn, then BOI."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str | None = None) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.special = special_ids(tokenizer)

    def ids(self, prompt: str) -> list[int]:
        refuse_unknown_words(self.tokenizer, prompt)
        turn: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "text", "text": prompt}]}]
        text = self.tokenizer.apply_chat_template(
            turn, chat_template=self.template, add_generation_prompt=True, tokenize=False
        )
        ids = [*_listed(self.tokenizer(str(text))["input_ids"]), self.special["boi"]]
        if ids.count(self.special["bos"]) != 1 or ids[0] != self.special["bos"]:
            raise ValueError(
                f"the chat template and tokenizer give {ids.count(self.special['bos'])} BOS tokens, Janus expects one "
                "at the start; is this the tokenizer the model was trained with?"
            )
        return ids

    def blank(self) -> list[int]:
        return self.ids("")

    def question(self, text: str | None, num_image_tokens: int) -> list[int]:
        words = self.tokenizer
        asked = {"type": "text", "text": DESCRIBE if text is None else text}
        turn: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "image"}, asked]}]
        spelt = words.apply_chat_template(turn, chat_template=self.template, add_generation_prompt=True, tokenize=False)
        boi, image, eoi = (getattr(words, f"{name}_token") for name in ("boi", "image", "eoi"))
        if str(spelt).count(image) != 1:
            raise ValueError(f"the chat template puts {str(spelt).count(image)} images into a question, not one")
        return _listed(words(str(spelt).replace(image, boi + image * num_image_tokens + eoi))["input_ids"])


def prompt_batch(form: PromptFormat, prompts: Sequence[str], branches: int) -> PromptIds:
    """Spell prompts with `form` and pad them on the left; two branches append the unconditional rows."""
    special = special_ids(form.tokenizer)
    rows = [form.ids(prompt) for prompt in prompts]
    length = max((len(row) for row in rows), default=0)
    ids = torch.tensor([[special["pad"]] * (length - len(row)) + row for row in rows], dtype=torch.long)
    visible = torch.tensor([[False] * (length - len(row)) + [True] * len(row) for row in rows], dtype=torch.bool)
    if branches == 1:
        return PromptIds(ids, visible)
    kept = (ids == special["bos"]) | (ids == special["boi"])
    return PromptIds(torch.cat([ids, ids.where(kept, special["pad"])]), visible.repeat(2, 1))


def refuse_unknown_words(tokenizer: PreTrainedTokenizerBase, prompt: str) -> None:
    """Raise a ValueError that names every word the tokenizer does not know, with the closest it knows."""
    if tokenizer.unk_token_id is None or not tokenizer.is_fast:
        return
    coded = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)
    spans = zip(_listed(coded["input_ids"]), coded["offset_mapping"], strict=True)
    unknown = list(dict.fromkeys(prompt[a:b] for index, (a, b) in spans if index == tokenizer.unk_token_id))
    if unknown:
        words = list(tokenizer.get_vocab())
        near = {word: difflib.get_close_matches(word.lower(), words, n=3, cutoff=0.5) for word in unknown}
        named = "; ".join(f"{word!r} (closest: {', '.join(known) or 'none'})" for word, known in near.items())
        raise ValueError(f"this VLM does not know {named}; it knows {len(words)} words")


def _listed(ids: Any) -> list[int]:
    return [int(index) for index in ids]
