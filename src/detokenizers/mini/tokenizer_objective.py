"""Training the mini VLM's own tokenizer: transformers' `JanusVQVAE` with a spherical codebook that follows the encoder.

images -encoder, quant_conv-> unit features -nearest code-> straight-through codes -decoder-> images.
Codes are averages of the features assigned to them (`nn.codebook`), from the end of a warm-up on that rounds nothing.
Several processes follow the features of all of them, as one would; accumulation rounds each count as an update.
A second stage can keep encoder and codes, so that every token keeps its meaning, and train the decoder alone.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nn.channels_last import channels_last
from ..nn.codebook import Averages, Restarts, perplexity
from ..nn.world_net import WorldNet
from ..training.processes import everywhere
from .adversarial import Adversary
from .perceptual import perceptual_loss, pixel_loss


class TokenizerObjective(nn.Module):
    """L1 + edges + perceptual + commitment, and an adversary if one is given. Batch: `images` [b 3 h w].

    With `keep_codes` the codebook is the one `vq` has, and only what turns codes into pixels learns.
    """

    vq: Any
    step: Tensor

    def __init__(
        self,
        vq: Any,
        judge: WorldNet,
        *,
        keep_codes: bool = False,
        warmup: int = 250,
        perceptual: float = 0.05,
        commitment: float = 0.25,
        rule: Averages = Averages(decay=0.98, restarts=Restarts(below=0.03, age=0)),  # noqa: B008
        adversary: Adversary | None = None,
    ) -> None:
        super().__init__()
        self.vq = channels_last(vq)
        self.codes: nn.Embedding = vq.quantize.embedding.requires_grad_(False)
        self.judge = judge.requires_grad_(False).eval()
        self.adversary = adversary
        self.keep_codes = keep_codes
        self.warmup, self.perceptual = warmup, perceptual
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        size, dim = self.codes.weight.shape
        self.codebook = rule.build(size, dim, commitment)
        if keep_codes:
            self.codebook.book.copy_(F.normalize(self.codes.weight.detach(), dim=-1))
            self.vq.requires_grad_(False)
            self.vq.post_quant_conv.requires_grad_(True)
            self.vq.decoder.requires_grad_(True)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        images = batch["images"].contiguous(memory_format=torch.channels_last)
        z = F.normalize(self.vq.quant_conv(self.vq.encoder(images)).float(), dim=1)
        rows, follow = z.permute(0, 2, 3, 1), self.training and not self.keep_codes
        if follow and self.step == self.warmup:
            self._seed(everywhere(rows.detach().flatten(0, 2)))
        codes, ids, quantiser = self.codebook(rows)
        passed = codes.permute(0, 3, 1, 2)
        if self.step < self.warmup and not self.keep_codes:
            passed, quantiser = z, quantiser * 0
        drawn = self.vq.decoder(self.vq.post_quant_conv(passed))
        terms = {
            "pixels": pixel_loss(drawn, images),
            "perceptual": perceptual_loss(self.judge, drawn, images),
            "quantiser": quantiser,
        }
        if follow:
            if self.step >= self.warmup:
                self.codebook.update(everywhere(rows.detach().flatten(0, 2)), everywhere(ids.flatten()))
            self.step += 1
        loss = terms["pixels"] + self.perceptual * terms["perceptual"] + quantiser
        in_use = perplexity(torch.bincount(ids.flatten(), minlength=self.codebook.size))
        psnr = -10 * torch.log10(F.mse_loss(drawn.detach().clamp(-1, 1), images) / 4)
        if self.adversary is not None:
            both, logged = self.adversary.terms(loss, drawn, images, self.vq.decoder.conv_out.weight)
            loss, terms = loss + both, terms | logged
        return {"loss": loss, **terms, "batch_perplexity": loss.new_tensor(in_use), "psnr": psnr}

    @torch.no_grad()
    def tokenizer(self) -> Any:
        """The `JanusVQVAE` with the codebook as it stands."""
        self.codes.weight.copy_(self.codebook.rows())
        return self.vq

    @torch.no_grad()
    def _seed(self, features: Tensor) -> None:
        """Codes := features. A batch may have fewer of them than there are codes: then they are taken again, near by."""
        again = features.repeat(-(-self.codebook.size // len(features)), 1)
        noise = torch.randn(again.shape, generator=torch.Generator().manual_seed(0)).to(again)
        self.codebook.seed(again + 0.02 * noise, rounds=0)
