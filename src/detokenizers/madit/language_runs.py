"""Training a language model to write images in the codes of a MaDiT's tokenizer.

captions, images -tokenizer-> ids (cached) -LanguageRun-> a language model folder, tokenizer included
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ..checkpoint import resolve, write_text
from ..data.sources import ImageSource, Source, WorldImages, shuffled_rows
from ..pretrained.vlm.language_models import LanguageModel, PublishedLanguageModel, SmallQwen, save_language_model
from ..pretrained.vlm.visual_vocabulary import VisualVocabulary, grow
from ..pretrained.vlm.visual_words import VOCABULARY
from ..training import CachedRun, Job
from .language import LanguageObjective
from .loading import load_own_codes
from .model import TOKENIZER
from .tokenizer import MaDiTTokenizer

HELD = 64


class LanguageRun(CachedRun):
    """Supervised fine-tuning of a language model on captions and tokens (paper A.5)."""

    tokenizer: str
    """Folder of a trained MaDiT, whose codes become visual words."""
    images: ImageSource = WorldImages()
    model: LanguageModel = SmallQwen()
    start: str | None = None
    """Folder of a language model that has its visual words already: the second stage goes on from it."""
    over: Literal["full", "visual"] = "full"
    """Whether the loss compares with all words or with visual ones only."""
    drop: float = Field(default=0.1, ge=0, lt=1)
    """Share of prompts replaced by the empty one, for guidance."""
    guidance: float = 1.5
    """What it will draw with unless asked otherwise."""
    scale: float = Field(default=1.0, ge=0)
    """Spread of the new rows; the paper's is that of the old ones."""

    def job(self) -> Job:
        torch.manual_seed(self.train.seed)
        codes = load_own_codes(resolve(self.tokenizer), device=self.device)
        source = self.images.open()
        model, words, vocabulary = self._grown(codes, source)
        inputs = {"tokenizer": codes.fingerprint(), "images": source.fingerprint()}
        tokens = self.encoded(
            "words", source, lambda images, _: {"tokens": codes.tokens(codes.features(images)).int()}, inputs
        )

        def batch(captions: Sequence[str], ids: Tensor) -> dict[str, Tensor]:
            rows = [vocabulary.spelt(words, caption) for caption in captions]
            longest = max(map(len, [*rows, empty]))
            padded = [[-1] * (longest - len(row)) + row for row in rows]
            return {"words": torch.tensor(padded), "tokens": ids.long()}

        def batches(part: int, size: int) -> dict[str, Tensor]:
            rows = shuffled_rows(part, size, len(source))
            return batch(source.captions(rows), tokens[rows]["tokens"])

        others = self.images.held_out(HELD)

        def held_out() -> dict[str, Tensor]:
            assert others is not None
            rows = range(min(HELD, len(others)))
            return batch(others.captions(rows), codes.tokens(codes.features(others.images(rows))).cpu())

        def export(_: nn.Module, folder: Path) -> None:
            save_language_model(model, words, folder, dtype=torch.float16)
            codes.save(folder / TOKENIZER)
            write_text(folder / VOCABULARY, vocabulary.to_yaml())

        empty = vocabulary.spelt(words, "")
        objective = LanguageObjective(
            model, first=vocabulary.first, boi=vocabulary.boi, empty=empty, over=self.over, drop=self.drop
        )
        return Job(objective, batches, export, held_out=None if others is None else held_out, inputs=inputs)

    def _grown(self, codes: MaDiTTokenizer, source: Source) -> tuple[Any, Any, VisualVocabulary]:
        if self.start is not None:
            folder = resolve(self.start)
            model, words = PublishedLanguageModel(name=str(folder)).build([])
            return model, words, VisualVocabulary.from_yaml(folder / VOCABULARY).vary(guidance=self.guidance)
        model, words = self.model.build(vocabulary_of(source))
        vocabulary = grow(
            model,
            codes.config.codes,
            prompts=self.model.prompts,
            known=len(words),
            seed=self.train.seed,
            scale=self.scale,
            guidance=self.guidance,
        )
        return model, words, vocabulary


def vocabulary_of(source: Source) -> Iterator[str]:
    """The words of a closed world; of other sources, those of its captions, read only if somebody asks for them."""
    world = getattr(source, "world", None)
    if world is not None:
        yield from world.vocabulary
        return
    for row in range(len(source)):
        yield from source.captions([row])[0].split()
