"""A word-level tokenizer in Hugging Face format: one id per known word, and Janus' special tokens.

caption -lower, split on spaces, drop .,;:!?"()-> words -vocabulary-> ids; saved and loaded like any other tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SPECIAL = {
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "boi_token": "<begin_of_image>",
    "eoi_token": "<end_of_image>",
    "image_token": "<image>",
}


def word_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """Build the tokenizer of a closed vocabulary: special tokens first (ids 0-6), then the words in sorted order.

    It is lower case, splits on whitespace, ignores sentence punctuation (hyphens and apostrophes belong to their word),
    pads on the left and adds no special token by itself.
    """
    names = [*SPECIAL.values(), *sorted({word.lower() for word in words} - set(SPECIAL.values()))]
    backend = Tokenizer(
        models.WordLevel({name: index for index, name in enumerate(names)}, unk_token=SPECIAL["unk_token"])
    )
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r'[.,;:!?"()]'), behavior="removed")]
    )
    named = {name: SPECIAL[name] for name in ("boi_token", "eoi_token", "image_token")}
    base = {name: SPECIAL[name] for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, padding_side="left", extra_special_tokens=named, model_max_length=1024, **base
    )
