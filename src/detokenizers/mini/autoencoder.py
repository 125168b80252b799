"""Training the mini latent space: diffusers' `AutoencoderKL` with a light KL, so that decoders draw in its latents.

images -encoder-> mean, variance -sample-> latents -decoder-> images; latent statistics are measured at export.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..training.draws import normal_like
from .perceptual import pixel_loss


class AutoencoderObjective(nn.Module):
    """L1 + edges + KL per latent number. Batch: `images` [b 3 h w]."""

    vae: Any

    def __init__(self, vae: Any, *, kl: float = 3e-4) -> None:
        super().__init__()
        self.vae = vae.to(memory_format=torch.channels_last)
        self.kl = kl

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        images = batch["images"].contiguous(memory_format=torch.channels_last)
        posterior = self.vae.encode(images).latent_dist
        latents = posterior.mean + posterior.std * normal_like(batch, "latents", posterior.mean)
        drawn = self.vae.decode(latents).sample
        terms = {
            "pixels": pixel_loss(drawn, images),
            "kl": posterior.kl().mean() / posterior.mean[0].numel(),
        }
        loss = terms["pixels"] + self.kl * terms["kl"]
        psnr = -10 * torch.log10(F.mse_loss(drawn.detach().clamp(-1, 1), images) / 4)
        return {"loss": loss, **terms, "psnr": psnr}
