"""Stable Diffusion 3's transformer, conditioned on a map of image features instead of text: VUGEN's latent decoder.

condition [b k hc wc] -one token a cell, with its position-> context ; its mean -> pooled ; noisy latents -> velocity
"""

from __future__ import annotations

from typing import Any

from diffusers import SD3Transformer2DModel
from jaxtyping import Float
from torch import Tensor, nn

from ..config import Config
from ..nn.edm import Preconditioning
from ..nn.embeddings import grid_sinusoid
from ..protocols import Grid


class SD3Config(Config):
    """Every number of the transformer; the defaults are those of VUGEN's latent decoder at 256 px (32x32 latents)."""

    condition: int = 64
    """Channels of the condition map."""
    latent_channels: int = 4
    latent_size: int = 32
    """Side of the latents."""
    patch: int = 2
    layers: int = 28
    heads: int = 16
    head_dim: int = 72
    edm: Preconditioning = Preconditioning()


class SD3Net(nn.Module):
    """A `VelocityNet` over `SD3Transformer2DModel`, with EDM's preconditioning."""

    # PAPER GAP (docs/vugen.md#latent-decoder): the paper counts 794M; this class has 1,327M at that width and depth.

    def __init__(self, config: SD3Config) -> None:
        super().__init__()
        self.config = config
        width = config.heads * config.head_dim
        self.transformer = SD3Transformer2DModel(
            sample_size=config.latent_size,
            patch_size=config.patch,
            in_channels=config.latent_channels,
            out_channels=config.latent_channels,
            num_layers=config.layers,
            num_attention_heads=config.heads,
            attention_head_dim=config.head_dim,
            joint_attention_dim=config.condition,
            caption_projection_dim=width,
            pooled_projection_dim=config.condition,
            pos_embed_max_size=config.latent_size,
        )
        # Text tokens come with their positions; cells of a map do not, so they are added where tokens are projected.
        self.transformer.context_embedder = PositionedLinear(config.condition, width)

    def forward(
        self, noisy: Float[Tensor, "b c h w"], t: Float[Tensor, "b"], condition: Float[Tensor, "b k hc wc"]
    ) -> Float[Tensor, "b c h w"]:
        return self.traced(noisy, t, condition)[0]

    def traced(
        self, noisy: Float[Tensor, "b c h w"], t: Float[Tensor, "b"], condition: Float[Tensor, "b k hc wc"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b n k"]]:
        """The velocity, and the context tokens, which nothing is aligned with.

        Raises:
            ValueError: a condition of other channels.
        """
        if condition.shape[1] != self.config.condition:
            raise ValueError(f"this net is conditioned on {self.config.condition} channels, not {condition.shape[1]}")
        edm, tokens = self.config.edm, condition.flatten(2).mT
        output: Any = self.transformer(
            hidden_states=edm.scaled(noisy, t),
            encoder_hidden_states=tokens,
            pooled_projections=tokens.mean(1),
            timestep=1000 * edm.level(t),
        )
        return edm.velocity(output.sample.float(), noisy, t), tokens


class PositionedLinear(nn.Linear):
    """A linear layer over the cells of a square raster that adds to each the sinusoids of its row and column."""

    def forward(self, input: Float[Tensor, "b n k"]) -> Float[Tensor, "b n d"]:
        side = round(input.shape[1] ** 0.5)
        positions = grid_sinusoid(Grid(side, side), self.out_features)
        return super().forward(input) + positions.to(input.device, input.dtype)
