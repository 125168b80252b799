"""Tiny random parts of a MaDiT: 16 px images, an 8x8 latent, patches of 1 or 2 latents."""

from __future__ import annotations

from pathlib import Path

import torch

from detokenizers.madit.adapter import AdapterConfig
from detokenizers.madit.heads import Flow, HeadConfig
from detokenizers.madit.masked import TrunkConfig
from detokenizers.madit.model import MaDiT, MaDiTConfig, Sampling
from detokenizers.madit.orders import PATCH_KL
from detokenizers.madit.tokenizer import CodedPatches, MaDiTTokenizer, TokenizerConfig
from detokenizers.madit.vocabulary import Vocabulary
from detokenizers.pretrained.spaces import PretrainedVAE, VAEConfig, build_vae, save_vae, set_statistics
from detokenizers.protocols import VisualTokens

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
    made.measure([(made.ids(read._asdict()), read.patches, read.kl)])
    return made.requires_grad_(False).eval()


def images(count: int, seed: int = 0) -> torch.Tensor:
    """Smooth random images."""
    coarse = torch.randn(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bicubic").clamp(-1, 1)


WORDS = ["a", "red", "green", "apple", "pear", "on", "wood"]


def vocabulary() -> Vocabulary:
    """Seven words of width 5."""
    return Vocabulary(WORDS, torch.randn(7, 5, generator=torch.Generator().manual_seed(3)), length=6)


def model(codes: CodedPatches, *, text: str = "none", live: bool = True, **changes) -> MaDiT:
    """A random model of width 16; `live` moves what starts at zero, so that the flow and guidance do something."""
    torch.manual_seed(2)
    config = MaDiTConfig(
        codes=codes.config,
        trunk=TrunkConfig(width=16, encoder=2, decoder=2, heads=2, dropout=0.0, text=text),
        head=HeadConfig(width=12, blocks=1),
        sampling=Sampling(rounds=5, decoding=Flow(steps=3)),
    )
    config = config.vary(changes)
    made = config.build(codes, vocabulary())
    if live:
        with torch.no_grad():
            for parameter in made.head.net.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape))
            for name in ("dummy", "mask_token", "kinds"):
                getattr(made.trunk, name).normal_()
    return made.requires_grad_(False).eval()


def tokens(codes: MaDiTTokenizer, count: int = 3, seed: int = 4) -> VisualTokens:
    """Tokens of random images, with the KL of their patches."""
    shown = images(count, seed)
    kl = codes.layout.by_token(codes.read(shown).kl)
    return VisualTokens(codes.tokens(codes.features(shown)), codes.grid, {PATCH_KL: kl})
