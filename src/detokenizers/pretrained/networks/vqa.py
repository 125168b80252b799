"""DPG-Bench's judge: a vision-language model answers yes or no, by which of the two words is likelier next.

Nothing is sampled: after "Answer yes or no: <question>" the logits of the next token decide, so an answer is a number
and the same every time. Qwen2.5-VL is the default kind; it is not the official mPLUG, whose scores do not compare.

picture, questions -patches, one chat a question-> next-token logits -log(e^yes + e^Yes) - log(e^no + e^No)-> margin
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from ..weights.models import load_model, readable, source_of

USUAL = "Qwen/Qwen2.5-VL-7B-Instruct"
IMAGE = "<|image_pad|>"
CHAT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n<|vision_start|>{image}<|vision_end|>Answer yes or no: {question}<|im_end|>\n"
    "<|im_start|>assistant\n"
)
"""Qwen's chat template, written out."""
SPELLINGS = {"yes": ("yes", "Yes"), "no": ("no", "No")}
"""Spellings that count; a chat model tends to the capital."""


class YesNo(nn.Module):
    """A frozen image-text model that answers yes/no questions; `name` is what its scores are called after, `identity`
    names its weights as well."""

    def __init__(
        self,
        model: Qwen2_5_VLForConditionalGeneration,
        words: PreTrainedTokenizerBase,
        processor: Qwen2VLImageProcessorPil,
        name: str,
        identity: str = "",
    ) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.words, self.processor, self.name, self.identity = words, processor, name, identity or name
        self.image_id = self._token(IMAGE)
        self.answers = {answer: [self._token(word) for word in spelt] for answer, spelt in SPELLINGS.items()}

    @classmethod
    def load(cls, name: str | Path = USUAL, *, device: str | torch.device = "cpu") -> Self:
        """From a folder or a Hub id; bfloat16 on CUDA and float32 elsewhere.

        Raises:
            ValueError: there is nothing, it is another kind of model, or parts are missing.
        """
        folder, identity = source_of(name)
        with readable(f"{folder} has no readable tokenizer and image processor of a Qwen-VL"):
            words = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            processor = Qwen2VLImageProcessorPil.from_pretrained(folder, local_files_only=True)
        model = load_model(Qwen2_5_VLForConditionalGeneration, folder)
        dtype = torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32
        short = identity.lower().rpartition("@")[0]
        identity = f"{identity.lower()}, {dtype}".replace("torch.", "")
        return cls(model.to(dtype), words, processor, short, identity).to(device)  # pyright: ignore[reportArgumentType]

    @torch.no_grad()
    def forward(self, picture: UInt8[np.ndarray, "h w 3"], questions: Sequence[str]) -> Float[Tensor, "q"]:
        """Log-odds of yes over no for each question about one picture; positive means yes.

        All questions about a picture go together, always the same ones, so that an answer has the same company.
        """
        if not questions:
            raise ValueError("there is no question about this picture")
        seen: Any = self.processor(images=[picture], return_tensors="pt")
        number = int(seen["image_grid_thw"].prod()) // self.processor.merge_size**2
        chats = [CHAT.format(image=IMAGE * number, question=question) for question in questions]
        coded = self.words(chats, padding=True, padding_side="left", return_tensors="pt", add_special_tokens=False)
        ids = coded["input_ids"]
        if (ids == self.image_id).sum().item() != number * len(questions):
            raise ValueError(f"the tokenizer of {self.name} does not read {IMAGE} as one token")
        device = self.model.device
        out: Any = self.model(
            input_ids=ids.to(device),
            attention_mask=coded["attention_mask"].to(device),
            mm_token_type_ids=(ids == self.image_id).int().to(device),
            pixel_values=seen["pixel_values"].to(device, self.model.dtype).repeat(len(questions), 1),
            image_grid_thw=seen["image_grid_thw"].to(device).repeat(len(questions), 1),
            logits_to_keep=1,
            use_cache=False,
        )
        logits = out.logits[:, -1].float().cpu()
        if not torch.isfinite(logits).all():
            raise ValueError(f"{self.name} answered with NaN or infinity; its weights or its precision are at fault")
        return margin(logits, self.answers["yes"], self.answers["no"])

    def _token(self, word: str) -> int:
        ids = self.words(word, add_special_tokens=False)["input_ids"]
        if len(ids) != 1 or ids[0] == self.words.unk_token_id:
            raise ValueError(f"the tokenizer of {self.name} has no single token for {word!r}, so it cannot judge")
        return ids[0]


def margin(logits: Float[Tensor, "q v"], yes: Sequence[int], no: Sequence[int]) -> Float[Tensor, "q"]:
    """Log-odds of yes over no, each in any of its spellings."""
    return logits[:, list(yes)].logsumexp(-1) - logits[:, list(no)].logsumexp(-1)
