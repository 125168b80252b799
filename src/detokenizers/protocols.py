"""The nouns of the house: what a tokenizer, a VLM, a latent space and a decoder promise each other.

Shape legend, used in every annotation of this package:
    b batch, n tokens in raster order, v codebook size, d code dimension, c channels, h w height and width,
    o observed features per token, p a probability row, t flow time in [0, 1] (1 = noise).

Data flow: prompt -TokenVLM-> VisualTokens -Detokenizer-> images [b 3 h w] in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

Observe = Callable[[Float[Tensor, "b v"], Int[Tensor, "b"]], Float[Tensor, "b o"]]
"""Called while the token loop runs, with rows of guided logits (fp32) and the tokens sampled from them: one row an
item, of one step or, where codebooks are small, of a few. What it returns is kept. This is how beliefs are used without
ever storing `[n v]`."""


class Grid(NamedTuple):
    """Rows and columns of a token raster."""

    height: int
    width: int

    @property
    def size(self) -> int:
        return self.height * self.width

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


@dataclass(frozen=True)
class VisualTokens:
    """What a VLM (or a tokenizer) says about a batch of images.

    `observed` is whatever `observe` returned, stacked in raster order; `None` when nothing observed the loop.
    """

    ids: Int[Tensor, "b n"]
    grid: Grid
    observed: Float[Tensor, "b n o"] | None = None

    def __post_init__(self) -> None:
        if self.ids.shape[-1] != self.grid.size:
            raise ValueError(f"{self.ids.shape[-1]} tokens do not fill a {self.grid} grid ({self.grid.size} tokens)")

    @classmethod
    def join(cls, parts: Sequence[VisualTokens]) -> VisualTokens:
        """Batches of one grid, all observed or none, as one batch."""
        observed = [part.observed for part in parts if part.observed is not None]
        if len({part.grid for part in parts}) != 1 or len(observed) not in (0, len(parts)):
            raise ValueError("tokens of different grids, or some observed and some not, do not make a batch")
        return cls(torch.cat([part.ids for part in parts]), parts[0].grid, torch.cat(observed) if observed else None)

    def __len__(self) -> int:
        return self.ids.shape[0]

    def __getitem__(self, rows: slice) -> VisualTokens:
        return VisualTokens(self.ids[rows], self.grid, None if self.observed is None else self.observed[rows])


@runtime_checkable
class ImageSpace(Protocol):
    """Where a decoder draws: pixels themselves or a VAE's latents. Images are [b 3 h w] in [-1, 1]."""

    channels: int
    stride: int

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c hl wl"]: ...
    def decode(self, latents: Float[Tensor, "b c hl wl"]) -> Float[Tensor, "b 3 h w"]: ...


@runtime_checkable
class VisualTokenizer(Protocol):
    """A frozen vector-quantised tokenizer; `codebook` rows have unit norm, in fp32."""

    grid: Grid
    image_size: int

    @property
    def codebook(self) -> Float[Tensor, "v d"]: ...
    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]: ...
    def tokens(self, features: Float[Tensor, "b n d"]) -> Int[Tensor, "b n"]: ...
    def decode(self, codes: Float[Tensor, "b n d"]) -> Float[Tensor, "b 3 h w"]: ...


@runtime_checkable
class TokenVLM(Protocol):
    """A frozen vision-language model that draws by sampling image tokens one by one."""

    tokenizer: VisualTokenizer

    def generate(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        guidance: float | None = None,
        temperature: float = 1.0,
        observe: Observe | None = None,
    ) -> VisualTokens: ...


class Velocity(Protocol):
    """`velocity(noisy, t)` is shaped like `noisy`, of any rank; t is [b] in [0, 1], 1 = noise."""

    def __call__(self, noisy: Float[Tensor, "b ..."], t: Float[Tensor, "b"], /) -> Float[Tensor, "b ..."]: ...


class VelocityNet(Protocol):
    """A `Velocity` whose condition is still to be bound: `net(noisy, t, condition)`."""

    def __call__(
        self, noisy: Float[Tensor, "b ..."], t: Float[Tensor, "b"], condition: Float[Tensor, "b ..."], /
    ) -> Float[Tensor, "b ..."]: ...


class Detokenizer(Protocol):
    """Tokens in, pixels out: images are [b 3 h w] in [-1, 1]; one seed per item."""

    def __call__(
        self, tokens: VisualTokens, *, steps: int | None = None, seeds: Sequence[int] | None = None
    ) -> Float[Tensor, "b 3 h w"]: ...
