"""The distributions that a language model computes at each token of real images, given their captions: what a decoder
reads when it draws, for tokens whose image is known (spec 4.1.3).

images, captions -tokenizer-> ids -teacher forcing-> guided distributions -summary-> [b l o]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..pretrained.vlm.visual_words import VisualWordsVLM
from .conditions import OBSERVED, matched_sharpness
from .distributions import Hard, TokenInput
from .loading import load_language
from .model import MaDiT


class Observing:
    """A language model beside the tokenizer whose codes it writes."""

    def __init__(self, language: VisualWordsVLM) -> None:
        self.language = language

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> Observing:
        return cls(load_language(folder, device=device))

    @torch.no_grad()
    def summary(
        self, model: MaDiT, images: Float[Tensor, "b 3 h w"], captions: Sequence[str]
    ) -> Float[Tensor, "b l o"]:
        """What the model's input keeps of the distributions."""
        codes = self.language.tokenizer
        ids = codes.tokens(codes.features(images))
        (name,) = model.observers
        return self.language.teacher_forced(captions, ids, observe=model.observers).observed[name]

    @torch.no_grad()
    def matched(self, input: TokenInput, images: Float[Tensor, "b 3 h w"], captions: Sequence[str]) -> TokenInput:
        """The input with proxies that are as undecided as the language model is about these images.

        Raises:
            ValueError: an input that reads no distributions.
        """
        if isinstance(input, Hard):
            raise ValueError("hard tokens read no distributions; set model.input, or leave the language model out")
        codes = self.language.tokenizer
        units = codes.features(images)

        def entropy(logits: Float[Tensor, "b v"], _: Tensor) -> Float[Tensor, "b 1"]:
            return torch.special.entr(logits.softmax(-1)).sum(-1, keepdim=True) / math.log(logits.shape[-1])

        seen = self.language.teacher_forced(captions, codes.tokens(units), observe={OBSERVED: entropy})
        wanted = float(seen.observed[OBSERVED].mean())
        return input.vary({"conditions.sharpness": matched_sharpness(units.flatten(0, 1), codes.codebook, wanted)})
