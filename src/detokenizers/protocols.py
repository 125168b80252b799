"""The nouns of the house: what a tokenizer, a VLM, an image space and a decoder promise each other.

Whatever satisfies a protocol works everywhere: the house reads no other attribute and asks for no class. Every
`fingerprint()` changes when weights or settings that decide the results do; kept results are known by it.

Shape legend, used in every annotation of this package:
    b batch, n tokens in raster order, v codebook size, d code dimension, c channels, h w height and width,
    o observed numbers per token, p a probability row, t flow time in [0, 1] (1 = noise).

Data flow: prompt -TokenVLM-> VisualTokens -Decoder-> images [b 3 h w] in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

Observe = Callable[[Float[Tensor, "b v"], Int[Tensor, "b"]], Float[Tensor, "b o"]]
"""Called while the token loop runs, with rows of guided logits (fp32) and the tokens sampled from them: one row an
item, of one step or, where codebooks are small, of a few. What it returns is kept. This is how distributions are used
without ever storing `[n v]`."""


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
    """The tokens of a batch of images, sampled by a VLM or read from pictures by a tokenizer.

    `observed` holds what observers returned, by name, each stacked in raster order. A name has one meaning: tensors
    under one name were computed alike, whoever computed them. `captions` are the words of each image, where they are
    known, and empty where one has none; a decoder may read them or not.
    """

    ids: Int[Tensor, "b n"]
    grid: Grid
    observed: Mapping[str, Float[Tensor, "b n o"]] = field(default_factory=dict)
    captions: list[str] | None = None

    def __post_init__(self) -> None:
        if self.ids.ndim != 2 or self.ids.is_floating_point():
            raise ValueError(f"token ids are whole numbers [b n], not {self.ids.dtype} {list(self.ids.shape)}")
        if self.ids.shape[-1] != self.grid.size:
            raise ValueError(f"{self.ids.shape[-1]} tokens do not fill a {self.grid} grid ({self.grid.size} tokens)")
        if self.captions is not None and len(self.captions) != len(self):
            raise ValueError(f"{len(self)} images but {len(self.captions)} captions; give one per image, or none")

    @classmethod
    def join(cls, parts: Sequence[VisualTokens]) -> VisualTokens:
        """Batches of one grid, under the same observers, as one batch."""
        if len({part.grid for part in parts}) != 1 or len({frozenset(part.observed) for part in parts}) != 1:
            raise ValueError("tokens of different grids, or of different observers, do not make a batch")
        first = parts[0]
        observed = {name: torch.cat([part.observed[name] for part in parts]) for name in first.observed}
        spoken = [part.captions for part in parts if part.captions is not None]
        captions = [text for texts in spoken for text in texts] if len(spoken) == len(parts) else None
        return cls(torch.cat([part.ids for part in parts]), first.grid, observed, captions)

    def __len__(self) -> int:
        return self.ids.shape[0]

    def __getitem__(self, rows: slice) -> VisualTokens:
        captions = None if self.captions is None else self.captions[rows]
        return VisualTokens(self.ids[rows], self.grid, {name: x[rows] for name, x in self.observed.items()}, captions)


@runtime_checkable
class ImageSpace(Protocol):
    """Where a decoder draws: pixels themselves or a VAE's latents. Images are [b 3 h w] in [-1, 1]."""

    channels: int
    stride: int

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c hl wl"]: ...
    def decode(self, latents: Float[Tensor, "b c hl wl"]) -> Float[Tensor, "b 3 h w"]: ...

    def posterior(
        self, images: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b c hl wl"], Float[Tensor, "b c hl wl"]]:
        """Mean and standard deviation of an image's latents; a space without a posterior has a deviation of zero."""
        ...

    def fingerprint(self) -> str: ...


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

    def fingerprint(self) -> str: ...


@runtime_checkable
class TokenVLM(Protocol):
    """A frozen vision-language model that draws by sampling image tokens one by one."""

    guidance: float
    """The weight of classifier-free guidance that it draws with unless a caller gives another."""

    @property
    def tokenizer(self) -> VisualTokenizer: ...

    def check(self, prompts: Sequence[str]) -> None:
        """Raise ValueError for a prompt that it cannot read, before anything is drawn."""
        ...

    def width(self, prompts: Sequence[str]) -> int:
        """What `generate` is to be given with every batch of a request that has all these prompts, so that batches have
        one shape and an item does not depend on its company; 0 where it does not anyway."""
        ...

    def generate(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        guidance: float | None = None,
        temperature: float = 1.0,
        observe: Mapping[str, Observe] | None = None,
        batch_size: int = 16,
        width: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> VisualTokens:
        """One image per prompt and seed; `observed[name]` is what `observe[name]` returned."""
        ...

    def fingerprint(self) -> str: ...


class VelocityNet(Protocol):
    """`velocity(noisy, t)` is shaped like `noisy`, of any rank; t is [b] in [0, 1], 1 = noise. The condition is bound
    before, by `FlowDecoder.bind` or by any closure."""

    def __call__(self, noisy: Float[Tensor, "b ..."], t: Float[Tensor, "b"], /) -> Float[Tensor, "b ..."]: ...


class Decoder(Protocol):
    """Tokens in, images out."""

    @property
    def source(self) -> Literal["tokens"]:
        """What it draws from; this is how a caller of `papers.load` sees which protocol a model follows."""
        ...

    @property
    def steps(self) -> int | None:
        """Its own number of sampling steps; None where there is nothing to sample."""
        ...

    @property
    def observers(self) -> Mapping[str, Observe]:
        """What it wants kept of the guided logits while a VLM samples; {} for decoders of ids."""
        ...

    @property
    def needs(self) -> frozenset[str]:
        """Names in `tokens.observed` without which it cannot draw. Where they are not among its observers, it can draw
        from tokens that it read from pictures, and not from those of a VLM."""
        ...

    def read(self, images: Float[Tensor, "b 3 h w"], tokenizer: VisualTokenizer) -> VisualTokens:
        """Tokens of pictures with all that it needs, as if a VLM had sampled them: the first half of a
        reconstruction."""
        ...

    def __call__(
        self, tokens: VisualTokens, *, steps: int | None = None, seeds: Sequence[int] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """Images in [-1, 1]; one seed per item."""
        ...

    def require(self, tokenizer: VisualTokenizer) -> None:
        """Raise ValueError when tokens of this tokenizer are not its own."""
        ...

    def fingerprint(self) -> str: ...


class Halves(Protocol):
    """The two halves of a call of a `Decoder` or a `TextToImage`, for callers that want latents, or every step: the
    pipelines do. `on_step` and `progress` are those of `flow.solvers`; what has no steps never calls them. What `latents`
    takes beside them (`guidance`) is listed in a frozenset `options`, where there is any, and `captions` there says that
    those of the tokens are read."""

    def latents(self, given: Any, /, *, steps: int | None, seeds: Sequence[int], **more: Any) -> Tensor:
        """What is drawn in the model's own space; `more` are `progress`, `on_step` and what the call itself takes."""
        ...

    def decode(self, latents: Tensor, /, *, seeds: Sequence[int]) -> Float[Tensor, "b 3 h w"]:
        """Images in [-1, 1] of what was drawn."""
        ...


class TextToImage(Protocol):
    """Prompts in, images out, no tokens in between."""

    @property
    def source(self) -> Literal["prompts"]: ...

    @property
    def steps(self) -> int | None:
        """Its own number of sampling steps; None where there is nothing to sample."""
        ...

    @property
    def reader(self) -> Decoder | None:
        """What draws a picture again by way of what this model samples; None if nothing does."""
        ...

    def __call__(
        self, prompts: Sequence[str], *, seeds: Sequence[int], guidance: float | None = None, steps: int | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """Images in [-1, 1]; one seed per item."""
        ...

    def require(self, vlm: str) -> None:
        """Raise ValueError when it draws with another VLM than the one of this name, which somebody asked for."""
        ...

    def fingerprint(self) -> str: ...
