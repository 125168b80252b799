"""VUGEN §3.2: the generation tower, a trainable copy of the VLM's language model that samples understanding latents.

The VLM itself stays frozen and is never touched: the tower only reads the keys and values it computes for a prompt,
once for all steps of sampling. Around the copy are a layer in, a layer out, and embeddings of time and position.

latents u_t [b n d] + time + position -copy of the language model over the text cache-> velocity [b n d]
"""

from __future__ import annotations

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from ..config import Config
from ..nn.embeddings import grid_sinusoid, sinusoid
from ..pretrained.vlm.text_cache import TextCache, image_states, trainable_copy
from ..protocols import Grid, VelocityNet


class TowerConfig(Config):
    """What is added to the language model's copy."""

    # PAPER GAP (docs/vugen.md#tower-inputs): how time, positions and latents enter is not given.
    time_width: int = Field(default=256, ge=2)
    """Sinusoids of the time."""


class Tower(nn.Module):
    """The velocity of token rows under a `TextCache`; `bind` makes a `VelocityNet` of it.

    Args:
        language_model: the frozen one that is copied.
        channels: d of a latent.
        grid: raster of the latents.
    """

    positions: Float[Tensor, "n width"]

    def __init__(
        self,
        language_model: nn.Module,
        channels: int,
        grid: Grid,
        config: TowerConfig = TowerConfig(),  # noqa: B008
    ) -> None:
        super().__init__()
        self.config, self.channels, self.grid = config, channels, grid
        words = language_model.get_input_embeddings().weight  # pyright: ignore[reportCallIssue]
        # What enters is as large as word embeddings are: that is the scale the copied layers were trained at.
        scale, width = float(words.detach().float().square().mean().sqrt()), words.shape[1]
        self.into = nn.Linear(channels, width)
        nn.init.normal_(self.into.weight, std=scale * channels**-0.5)
        nn.init.zeros_(self.into.bias)
        last = nn.Linear(width, width)
        nn.init.normal_(last.weight, std=scale * width**-0.5)
        self.time = nn.Sequential(nn.Linear(config.time_width, width), nn.SiLU(), last)
        self.register_buffer("positions", scale * 2**0.5 * grid_sinusoid(grid, width), persistent=False)
        self.twin = trainable_copy(language_model)
        self.out = nn.Linear(width, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    @property
    def width(self) -> int:
        """Numbers of one hidden state."""
        return self.into.out_features

    def forward(self, noisy: Float[Tensor, "b n d"], t: Float[Tensor, "b"], text: TextCache) -> Float[Tensor, "b n d"]:
        return self.traced(noisy, t, text)[0]

    def traced(
        self, noisy: Float[Tensor, "b n d"], t: Float[Tensor, "b"], text: TextCache, layer: int | None = None
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n width"]]:
        """The velocity, and the hidden states after the layer of a number, which REPA aligns.

        Raises:
            ValueError: latents of another raster or width, or texts of another number.
        """
        if noisy.shape[1:] != (self.grid.size, self.channels):
            raise ValueError(
                f"this tower samples [b {self.grid.size} {self.channels}] latents, not {list(noisy.shape)}"
            )
        if len(text) != len(noisy):
            raise ValueError(f"{len(noisy)} images need as many texts, got {len(text)}")
        time = self.time(sinusoid(1000 * t, self.config.time_width).to(self.into.weight.dtype))
        hidden = self.into(noisy.to(self.into.weight.dtype)) + time[:, None] + self.positions
        last, states = image_states(self.twin, hidden, text, layer)
        return self.out(last).float(), states

    def bind(self, text: TextCache) -> VelocityNet:
        """The velocity of images of these texts, as solvers follow it."""
        return lambda noisy, t: self(noisy, t, text)
