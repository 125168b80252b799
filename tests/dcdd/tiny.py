"""A DCDD decoder of the real classes that fits a test: 32-pixel images, 4x4 tokens of 32 codes, latents of stride 4."""

import torch
import torch.nn.functional as F

from detokenizers.dcdd.condition import CondConfig
from detokenizers.dcdd.model import DCDD, DCDDConfig
from detokenizers.pretrained.flux.scope import Full
from detokenizers.pretrained.flux.transformer import FluxConfig
from detokenizers.pretrained.spaces import PretrainedVAE, VAEConfig, build_vae, save_vae
from detokenizers.protocols import Grid

GRID, NUM_CODES, DIM = Grid(4, 4), 32, 8
FLUX = FluxConfig(
    layers=1,
    single_layers=1,
    heads=2,
    head_dim=16,
    axes=(4, 6, 6),
    text_dim=16,
    pooled_dim=16,
    latent_channels=4,
    stride=4,
    guidance=None,
)


def config(folder) -> DCDDConfig:
    """Settings over a random VAE that is written to `folder`."""
    torch.manual_seed(0)
    save_vae(build_vae(VAEConfig(channels=4, block_channels=(8, 8, 8), norm_groups=4)), folder)
    return DCDDConfig(
        condition=CondConfig(width=16), net=FLUX, scope=Full(), space=PretrainedVAE(name=str(folder)), token_stride=8
    )


def codebook() -> torch.Tensor:
    return F.normalize(torch.randn(NUM_CODES, DIM, generator=torch.Generator().manual_seed(2)), dim=-1)


def build(settings: DCDDConfig) -> DCDD:
    """A decoder whose condition columns are no longer zero, as after some training."""
    torch.manual_seed(0)
    dcdd = settings.build(codebook())
    torch.nn.init.normal_(dcdd.decoder.net.transformer.x_embedder.condition.weight, std=0.1)
    return dcdd


class Tokenizer:
    """Features are shrunken pixels; enough for the decoder's side of the contract."""

    grid, image_size = GRID, 32

    def __init__(self) -> None:
        self.codebook = codebook()

    def features(self, images):
        patches = F.adaptive_avg_pool2d(images, (4, 8)).flatten(1).unflatten(1, (3, 32))
        mix = torch.randn(6, 8, generator=torch.Generator().manual_seed(3))
        return F.normalize(patches.reshape(len(images), 16, 6) @ mix, dim=-1)

    def tokens(self, features):
        return (features @ self.codebook.T).argmax(-1)

    def decode(self, codes):
        return torch.zeros(len(codes), 3, 32, 32)
