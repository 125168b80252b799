"""Training the mini VLM's own tokenizer: transformers' `JanusVQVAE` with a spherical codebook that follows the encoder.

images -encoder, quant_conv-> unit features -nearest code-> straight-through codes -decoder-> images.
The codebook is a running mean of the features assigned to each code; codes nobody uses are re-seeded from features.
Several processes follow the features of all of them, as one would; accumulation rounds each count as a step of it.
A second stage can keep encoder and codes, so that every token keeps its meaning, and train the decoder alone.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nn.channels_last import channels_last
from ..nn.world_net import WorldNet
from ..seeds import mixed
from ..training.processes import everywhere
from .adversarial import Adversary
from .perceptual import perceptual_loss, pixel_loss


class TokenizerObjective(nn.Module):
    """L1 + edges + perceptual + commitment, and an adversary if one is given. Batch: `images` [b 3 h w].

    With `keep_codes` the codebook is the one `vq` has, and only what turns codes into pixels learns.
    """

    vq: Any
    step: Tensor
    count: Tensor
    total: Tensor
    book: Tensor

    def __init__(
        self,
        vq: Any,
        judge: WorldNet,
        *,
        keep_codes: bool = False,
        warmup: int = 250,
        perceptual: float = 0.05,
        commitment: float = 0.25,
        decay: float = 0.98,
        dead: float = 0.03,
        adversary: Adversary | None = None,
    ) -> None:
        super().__init__()
        self.vq = channels_last(vq)
        self.codes: nn.Embedding = vq.quantize.embedding.requires_grad_(False)
        self.judge = judge.requires_grad_(False).eval()
        self.adversary = adversary
        self.keep_codes = keep_codes
        self.warmup, self.perceptual, self.commitment = warmup, perceptual, commitment
        self.decay, self.dead = decay, dead
        size, dim = self.codes.weight.shape
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        self.register_buffer("count", torch.ones(size))
        self.register_buffer("total", torch.zeros(size, dim))
        book = self.codes.weight.detach().clone() if keep_codes else torch.randn(size, dim)
        self.register_buffer("book", F.normalize(book, dim=-1))
        if keep_codes:
            self.vq.requires_grad_(False)
            self.vq.post_quant_conv.requires_grad_(True)
            self.vq.decoder.requires_grad_(True)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        images = batch["images"].contiguous(memory_format=torch.channels_last)
        z = F.normalize(self.vq.quant_conv(self.vq.encoder(images)).float(), dim=1)
        flat = z.detach().permute(0, 2, 3, 1).flatten(0, 2)
        if self.training and not self.keep_codes and self.step == self.warmup:
            self._seed(everywhere(flat))
        ids = self._nearest(flat)
        quantised = self.book[ids].unflatten(0, (len(z), *z.shape[-2:])).permute(0, 3, 1, 2)
        commitment = F.mse_loss(z, quantised, reduction="none").sum(1).mean()
        if self.step < self.warmup and not self.keep_codes:
            passed, commitment = z, commitment * 0
        else:
            passed = z + (quantised - z).detach()
        drawn = self.vq.decoder(self.vq.post_quant_conv(passed))
        terms = {
            "pixels": pixel_loss(drawn, images),
            "perceptual": perceptual_loss(self.judge, drawn, images),
            "commitment": commitment,
        }
        if self.training and not self.keep_codes:
            self._follow(everywhere(flat), everywhere(ids))
        loss = terms["pixels"] + self.perceptual * terms["perceptual"] + self.commitment * commitment
        used = torch.bincount(ids, minlength=len(self.book)).float()
        share = used / used.sum()
        perplexity = torch.special.entr(share).sum().exp()
        psnr = -10 * torch.log10(F.mse_loss(drawn.detach().clamp(-1, 1), images) / 4)
        if self.adversary is not None:
            both, logged = self.adversary.terms(loss, drawn, images, self.vq.decoder.conv_out.weight)
            loss, terms = loss + both, terms | logged
        return {"loss": loss, **terms, "batch_perplexity": perplexity, "psnr": psnr}

    @torch.no_grad()
    def tokenizer(self) -> Any:
        """The `JanusVQVAE` with the codebook as it stands."""
        self.codes.weight.copy_(self.book)
        return self.vq

    @torch.no_grad()
    def _nearest(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):  # half precision confuses neighbouring codes
            return (features @ self.book.T).argmax(-1)

    @torch.no_grad()
    def _seed(self, features: Tensor) -> None:
        """Codebook := encoder features, as many as there are codes."""
        noise = torch.randn(self.book.shape, generator=self._generator("noise")).to(self.book)
        self.book.copy_(F.normalize(features[self._rows(features)] + 0.02 * noise, dim=-1))
        self.total.copy_(self.book)
        self.count.fill_(1.0)

    @torch.no_grad()
    def _follow(self, features: Tensor, ids: Tensor) -> None:
        """Exponential means of count and sum per code; re-seed the dead ones."""
        if self.step >= self.warmup:
            count = torch.bincount(ids, minlength=len(self.book)).float()
            total = torch.zeros_like(self.total).index_add_(0, ids, features)
            # Counts are kept per mean usage, so `dead` does not depend on the batch size.
            unit = len(features) / len(self.book)
            self.count.lerp_(count / unit, 1 - self.decay)
            self.total.lerp_(total / unit, 1 - self.decay)
            dead = self.count < self.dead
            # In place: data-parallel training holds on to the buffers it was given.
            self.total.copy_(torch.where(dead[:, None], features[self._rows(features)], self.total))
            self.count.masked_fill_(dead, 1.0)
            self.book.copy_(F.normalize(self.total, dim=-1))
        self.step += 1

    def _rows(self, features: Tensor) -> Tensor:
        """One feature for each code, the same choice in every process."""
        rows = torch.randint(len(features), (len(self.book),), generator=self._generator("rows"))
        return rows.to(features.device)

    def _generator(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(mixed(purpose, int(self.step)))
