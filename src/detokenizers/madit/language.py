"""Fine-tuning a language model to write visual words: a prompt as instruction, the image's tokens as its answer.

[pad.. prompt BOI | v_1 .. v_n EOI] -language model-> cross-entropy of what follows BOI
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..training.draws import uniform

CHUNK = 1024
"""Positions whose logits are in memory at a time: over 217,000 words they are 0.9 GB in fp32."""


class LanguageObjective(nn.Module):
    """Next-token cross-entropy of the visual words and EOI (paper A.5).

    Batch: `words` [b m] prompts ending in BOI, left-padded with -1; `tokens` [b n] ids of codes.

    Args:
        model: a causal language model of transformers, with visual words.
        first, boi: the row of code 0, and of BOI; EOI is the next.
        empty: ids of the empty prompt, which replaces a prompt that is dropped, as the unconditional side has it.
        over: `full` compares with all words (the paper), `visual` with visual words only, and leaves EOI out.
        drop: share of prompts that are dropped.
        closing: ids after EOI, such as the end of a chat turn.
    """

    model: Any
    empty: Tensor
    ending: Tensor

    def __init__(
        self,
        model: Any,
        *,
        first: int,
        boi: int,
        empty: list[int],
        over: Literal["full", "visual"] = "full",
        drop: float = 0.1,
        closing: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.model, self.first, self.codes = model, first, boi - first
        self.over, self.drop = over, drop
        self.register_buffer("empty", torch.tensor(empty), persistent=False)
        self.register_buffer("ending", torch.tensor([boi + 1, *closing]), persistent=False)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        dropped = uniform(batch, "dropped prompt", 1) < self.drop
        words = torch.where(dropped & self.training, self._padded(batch["words"]), batch["words"])
        tokens = batch["tokens"].long() + self.first
        answer = torch.cat([tokens, self.ending.expand(len(tokens), -1)], 1)
        visible = F.pad(words >= 0, (0, answer.shape[1] - 1), value=True)
        ids = torch.cat([words.clamp_min(0), answer[:, :-1]], 1)
        # Positions count from the first word, as the token loop and `generate` have them under left padding.
        positions = (visible.long().cumsum(1) - 1).clamp_min(0)
        body: Any = self.model.get_decoder()
        hidden = body(input_ids=ids, attention_mask=visible.long(), position_ids=positions, use_cache=False)
        answering = hidden.last_hidden_state[:, words.shape[1] - 1 :]
        weight = self.model.get_output_embeddings().weight
        visual = weight[self.first : self.first + self.codes]
        count = tokens.shape[1]
        if self.over == "visual":
            rows = answering[:, :count].flatten(0, 1)
            return {"loss": chunked_cross_entropy(rows, visual, (tokens - self.first).flatten())}
        return {"loss": chunked_cross_entropy(answering.flatten(0, 1), weight, answer.flatten())}

    def _padded(self, like: Int[Tensor, "b m"]) -> Int[Tensor, "b m"]:
        if like.shape[1] < len(self.empty):
            raise ValueError(f"prompts are padded to {like.shape[1]} words, the empty one alone has {len(self.empty)}")
        return F.pad(self.empty, (like.shape[1] - len(self.empty), 0), value=-1).expand_as(like)


def chunked_cross_entropy(
    hidden: Float[Tensor, "m h"], weight: Float[Tensor, "v h"], target: Int[Tensor, "m"], chunk: int = CHUNK
) -> Float[Tensor, ""]:
    """The mean cross-entropy of `hidden @ weight.T`, whose logits are computed in chunks, and again going back."""

    def summed(rows: Tensor, answers: Tensor) -> Tensor:
        return F.cross_entropy(F.linear(rows, weight).float(), answers, reduction="sum")

    parts = [
        checkpoint(summed, rows, answers, use_reentrant=False)
        for rows, answers in zip(hidden.split(chunk), target.split(chunk))
    ]
    return torch.stack(parts).sum() / len(target)  # pyright: ignore[reportArgumentType, reportCallIssue]
