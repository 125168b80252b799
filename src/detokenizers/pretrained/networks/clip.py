"""CLIP for CLIPScore: pictures and captions in one space. Which CLIP it was is part of the number's name.

OpenAI's weights want the quick GELU and DataComp's the exact one; a wrong one costs points without any error, so it is
checked. Captions longer than the model's window (77 tokens with start and end) lose their tail, and are named.

images -uint8, PIL bicubic, centre crop 224-> features [b d] ; texts -lower case, BPE, cut at 77-> texts [b d]
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer, PreTrainedTokenizerBase

from ...pixels import CropRule
from ..weights.models import load_model, readable, source_of
from ..weights.published import CLIP_DATACOMP, CLIP_OPENAI
from .views import View

log = logging.getLogger(__name__)

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
ACTIVATIONS = {CLIP_OPENAI: "quick_gelu", CLIP_DATACOMP: "gelu"}


class CLIP(nn.Module):
    """A frozen CLIPModel with its tokenizer; embeddings are projected, not normalised.

    Args:
        model, words: as transformers loads them.
        name: what a score made with it is called after, e.g. `clip-vit-large-patch14`.
        crop: `floor` is transformers' processor, which torchmetrics' CLIPScore uses; `round` is open_clip's, GenEval's.
    """

    def __init__(self, model: CLIPModel, words: PreTrainedTokenizerBase, name: str, crop: CropRule = "floor") -> None:
        super().__init__()
        self.name = name
        self.identity: str | None = None
        self.model = model.eval().float().requires_grad_(False)
        self.words = words
        config: Any = model.config
        self.view = View(config.vision_config.image_size, MEAN, STD, crop)
        self.window: int = config.text_config.max_position_embeddings

    @classmethod
    def load(cls, name: str | Path = CLIP_OPENAI, crop: CropRule = "floor") -> Self:
        """From a folder, or the pinned commit of one of the two published repositories.

        Raises:
            ValueError: the weights or the tokenizer are missing or do not fit, or the activation is not the published.
        """
        source = source_of(name)
        model = load_model(CLIPModel, source.folder)
        expected = ACTIVATIONS.get(str(name))
        config: Any = model.config
        found = {config.text_config.hidden_act, config.vision_config.hidden_act}
        if expected and found != {expected}:
            raise ValueError(
                f"{source.folder}/config.json asks for {' and '.join(sorted(found))}, but {name} was trained with "
                f"{expected}; fetch the published config"
            )
        net = cls(model, cls.load_words(source.folder), str(name).rstrip("/").split("/")[-1], crop)
        net.identity = source.identity
        return net

    @staticmethod
    def load_words(folder: Path) -> PreTrainedTokenizerBase:
        """The tokenizer of a folder."""
        with readable(f"{folder} has no readable CLIP tokenizer (tokenizer.json)"):
            if not (folder / "tokenizer.json").is_file():
                raise ValueError("there is no such file")
            return CLIPTokenizer.from_pretrained(folder, local_files_only=True)

    @torch.no_grad()
    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Image embeddings in fp32, of images of any size in [-1, 1], rounded to 8 bits first."""
        seen = self.view(images).to(self.model.device)
        outputs: Any = self.model.get_image_features(pixel_values=seen)
        return outputs.pooler_output

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Float[Tensor, "b d"]:
        """Text embeddings; what does not fit the window is cut, and logged."""
        if long := self.too_long(texts):
            log.warning(
                "%d of %d texts are longer than the %d tokens of %s and were cut, the first: %.60s...",
                len(long), len(texts), self.window, self.name, texts[long[0]],
            )  # fmt: skip
        coded = self.words(
            list(texts), padding=True, truncation=True, max_length=self.window, return_tensors="pt"
        ).to(self.model.device)  # fmt: skip
        outputs: Any = self.model.get_text_features(
            input_ids=coded["input_ids"], attention_mask=coded["attention_mask"]
        )
        return outputs.pooler_output

    def too_long(self, texts: Sequence[str]) -> list[int]:
        """Which texts lose their tail, by position; a report should say how many."""
        coded = self.words(list(texts), verbose=False)["input_ids"] if texts else []
        return [position for position, ids in enumerate(coded) if len(ids) > self.window]
