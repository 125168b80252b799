"""Tiny random parts of a MaDiT: 16 px images, an 8x8 latent, patches of 1 or 2 latents."""

from __future__ import annotations

from pathlib import Path

import torch

from detokenizers.madit.tokenizer import AdapterConfig, MaDiTTokenizer, TokenizerConfig
from detokenizers.pretrained.spaces import PretrainedVAE, VAEConfig, build_vae, save_vae, set_statistics

SIZE = 16


def vae_folder(folder: Path) -> Path:
    """An autoencoder with a posterior, latents of 4 channels at stride 2, and a shift and scale of its own."""
    torch.manual_seed(0)
    vae = build_vae(VAEConfig(channels=4, block_channels=(8, 8), norm_groups=4))
    set_statistics(vae, 0.3, 0.7)
    save_vae(vae, folder)
    return folder


def tokenizer(vae: Path, *, stride: int = 1, patch: int = 2, codes: int = 12, **changes) -> MaDiTTokenizer:
    """Random adapter and codes, with the exact pass over a few random images done."""
    torch.manual_seed(1)
    config = TokenizerConfig(
        space=PretrainedVAE(name=str(vae)), image_size=SIZE, patch=patch, token_stride=stride, codes=codes, dim=6,
        adapter=AdapterConfig(width=8, blocks=1, groups=4), **changes,
    )  # fmt: skip
    made = config.build()
    read = made.read(images(6))
    made.quantiser.seed(made.vectors(read.patches).flatten(0, 1).repeat(2, 1))
    made.measure([(made.ids(read.patches), read.patches, read.kl)])
    return made.requires_grad_(False).eval()


def images(count: int, seed: int = 0) -> torch.Tensor:
    """Smooth random images."""
    coarse = torch.randn(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bicubic").clamp(-1, 1)
