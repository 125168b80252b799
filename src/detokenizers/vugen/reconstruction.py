"""An autoencoder as a decoder of tokens, so that `detok reconstruct` and `detok evaluate` compare it with all others.

What it decodes are the understanding features of a picture, which tokens that a VLM drew do not come with.

images -read-> tokens, observed as latents -decode-> images
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..decoder import needed
from ..hub.on_hub import OnHub
from ..protocols import Observe, VisualTokenizer, VisualTokens
from .autoencoder import Autoencoder, AutoencoderConfig

OBSERVED = "understanding"


class Reconstruction(nn.Module, OnHub):
    """Reducer and pixel decoder of VUGEN, without its tower."""

    source: Literal["tokens"] = "tokens"
    observers: Mapping[str, Observe] = MappingProxyType({})
    needs: frozenset[str] = frozenset({OBSERVED})

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.steps: int | None = autoencoder.config.decoder.steps

    @property
    def config(self) -> AutoencoderConfig:
        """Every choice that decides latents and pixels."""
        return self.autoencoder.config

    @classmethod
    def load(cls, folder: str | Path) -> Reconstruction:
        """From the folder of stage A or of a distillation."""
        return cls(Autoencoder.load(folder))

    def save(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write the autoencoder."""
        self.autoencoder.save(folder, dtype=dtype)

    def require(self, tokenizer: VisualTokenizer) -> None:
        """Raise a ValueError when tokens and features of an image are not on one raster."""
        if tokenizer.grid != self.autoencoder.grid:
            raise ValueError(
                f"these tokens are on a {tokenizer.grid} grid, the features of this autoencoder on one of "
                f"{self.autoencoder.grid}; reconstruct with the tokenizer of {self.autoencoder.config.vlm}"
            )

    @torch.no_grad()
    def read(self, images: Float[Tensor, "b 3 h w"], tokenizer: VisualTokenizer) -> VisualTokens:
        """Tokens of images, with their latents."""
        self.require(tokenizer)
        observed = {OBSERVED: self.autoencoder.encode(images)}
        return VisualTokens(tokenizer.tokens(tokenizer.features(images)), tokenizer.grid, observed)

    @torch.no_grad()
    def forward(self, tokens: VisualTokens, **sampling: Any) -> Float[Tensor, "b 3 h w"]:
        """Decode the latents that `read` kept; arguments and errors are those of `latents`."""
        return self.decode(self.latents(tokens, **sampling))

    @torch.no_grad()
    def latents(
        self, tokens: VisualTokens, *, seeds: Sequence[int] | None = None, **sampling: Any
    ) -> Float[Tensor, "b c hl wl"]:
        """What the autoencoder's decoder draws in its own space; `sampling` is that of `Autoencoder.drawn`.

        Raises:
            ValueError: these tokens were drawn, not read from a picture.
        """
        seeds = range(len(tokens)) if seeds is None else seeds
        return self.autoencoder.drawn(needed(tokens, OBSERVED), seeds=seeds, **sampling)

    @torch.no_grad()
    def decode(
        self, latents: Float[Tensor, "b c hl wl"], *, seeds: Sequence[int] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """Images of what was drawn."""
        return self.autoencoder.decoder.space.decode(latents)

    def fingerprint(self) -> str:
        return self.autoencoder.fingerprint()
