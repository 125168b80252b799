"""What tests of visual words share: a stand-in for their tokenizer, and transformers' own loop under the same constraint."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from detokenizers.pretrained.vlm.visual_words import VisualWordsVLM
from detokenizers.protocols import Grid


class Codes(nn.Module):
    """All that a language model needs of a visual tokenizer."""

    image_size = 12

    def __init__(self, count: int, side: int) -> None:
        super().__init__()
        self.grid = Grid(side, side)
        self.codebook = F.normalize(torch.randn(count, 4, generator=torch.Generator().manual_seed(0)), dim=-1)

    def features(self, images):
        raise NotImplementedError

    tokens = decode = features


class VisualOnly(LogitsProcessor):
    """Nothing but visual words: the constraint, as `generate` knows it."""

    def __init__(self, first: int, codes: int) -> None:
        self.first, self.codes = first, codes

    def __call__(self, input_ids, scores):
        mask = torch.full_like(scores, float("-inf"))
        mask[:, self.first : self.first + self.codes] = 0
        return scores + mask


def generated(model: VisualWordsVLM, prompt: str, guidance: float) -> torch.Tensor:
    """Greedy tokens of transformers' own loop, guidance through its own processor."""
    vocabulary = model.vocabulary
    ids = torch.tensor([vocabulary.spelt(model.words, prompt)])
    more = {}
    if guidance != 1:
        more = {"negative_prompt_ids": torch.tensor([vocabulary.spelt(model.words, "")])}
    out = model.model.generate(
        ids,
        generation_config=GenerationConfig(
            do_sample=False, max_new_tokens=model.tokenizer.grid.size, top_k=0, top_p=1.0, min_p=0.0, temperature=1.0,
            repetition_penalty=1.0, num_beams=1, eos_token_id=vocabulary.eoi, pad_token_id=0,
            guidance_scale=None if guidance == 1 else guidance,
        ),
        attention_mask=torch.ones_like(ids),
        logits_processor=LogitsProcessorList([VisualOnly(vocabulary.first, vocabulary.codes)]),
        **more,
    )  # fmt: skip
    return out[0, ids.shape[1] :] - vocabulary.first
