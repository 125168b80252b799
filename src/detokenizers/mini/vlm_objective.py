"""Training the mini VLM both ways: caption -> image tokens (it draws) and image -> caption (it understands).

The model is the real `JanusForConditionalGeneration`; only the two losses are ours.
[pad.. bos words boi | tokens] -Llama-> generation head ; [boi image eoi | bos words eos] -Llama-> language head.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..training.draws import uniform


class VLMObjective(nn.Module):
    """Next-token losses of drawing and of describing.

    Batch: `words` [b m] left-padded ids ending in BOI; `tokens` [b n] image tokens; of its first items also `images`
    [b2 3 h w] and `captions` [b2 m], right-padded. Prompts are dropped (all but BOS and BOI become pad, as in the VLM's
    own unconditional branch) with probability `drop`.
    """

    model: Any

    def __init__(
        self, model: Any, *, pad: int, bos: int, eos: int, boi: int, drop: float = 0.1, weight: float = 0.2
    ) -> None:
        super().__init__()
        self.model = model
        model.model.vqmodel.requires_grad_(False)
        self.pad, self.bos, self.eos, self.boi = pad, bos, eos, boi
        self.drop, self.weight = drop, weight

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        dropped = uniform(batch, "dropped caption", 1) < self.drop
        draw = self.draw(batch["words"], batch["tokens"], dropped)
        terms = {"draw": draw}
        loss = draw
        if "images" in batch:
            terms["describe"] = self.describe(batch["images"], batch["captions"])
            loss = loss + self.weight * terms["describe"]
        return {"loss": loss, **terms}

    def draw(self, words: Int[Tensor, "b m"], tokens: Int[Tensor, "b n"], dropped: Bool[Tensor, "b 1"]) -> Tensor:
        """Cross-entropy of the image tokens given the caption, or given none where it is dropped."""
        mask = words != self.pad
        kept = (words == self.bos) | (words == self.boi) | ~mask
        words = torch.where(dropped & ~kept, self.pad, words)
        core = self.model.model
        text = core.get_input_embeddings()(words)
        image = self.model.prepare_embeddings_for_image_generation(tokens[:, :-1])
        mask = F.pad(mask, (0, tokens.shape[1] - 1), value=True)
        hidden = core.language_model(inputs_embeds=torch.cat([text, image], 1), attention_mask=mask).last_hidden_state
        logits = core.generation_head(hidden[:, words.shape[1] - 1 :])
        return F.cross_entropy(logits.flatten(0, 1).float(), tokens.flatten())

    def describe(self, images: Float[Tensor, "b 3 h w"], captions: Int[Tensor, "b m"]) -> Tensor:
        """Cross-entropy of the caption [bos words eos pad..] given the vision tower's features of the image."""
        core = self.model.model
        image = core.aligner(core.vision_model(images).last_hidden_state)
        text = core.get_input_embeddings()(captions)
        hidden = core.language_model(inputs_embeds=torch.cat([image, text], 1)).last_hidden_state
        logits = self.model.lm_head(hidden[:, image.shape[1] : -1])
        target = captions[:, 1:]
        return F.cross_entropy(logits.flatten(0, 1).float(), target.flatten(), ignore_index=self.pad)
