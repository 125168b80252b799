"""VUGEN §3.1: from the VLM's understanding features to the few numbers a token that it then learns to sample.

The paper's reducer is an MLP that learns jointly with the pixel decoder. The covariance of a vision tower's features
can have eigenvalues eight orders of magnitude apart, with colours and edges in the small ones, which a plain MLP on raw
features hardly finds (docs/vugen.md#reducer-start). `WhitenedMLP` starts with all of them of one size.

features [b n c] -reducer, d = c / ratio-> reduced [b n d] -ChannelNorm-> latents of mean 0 and variance 1
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from functools import reduce
from operator import add
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from ..config import Config
from .moments import Moments

Samples = Iterable[tuple[Float[Tensor, "b n c"], Float[Tensor, "b 3 h w"]]]
"""Features and the images they are of, batch by batch."""


class Reducer(nn.Module):
    """`forward(features [b n c]) -> [b n d]`, each token by itself."""

    channels: int
    """d, of what it returns."""

    @abstractmethod
    def forward(self, features: Float[Tensor, "b n c"]) -> Float[Tensor, "b n d"]: ...

    def start(self, samples: Samples) -> None:
        """Set the weights that are computed from features rather than learnt; most reducers have none."""


class Ratio(Config):
    """What all reducers have in common."""

    # PAPER GAP (docs/vugen.md#ratio): the default is lost from the text; a review has about 16.
    ratio: float = Field(default=16.0, ge=1)
    """Numbers of a feature for one of what is kept."""

    def kept(self, channels: int) -> int:
        """d for features of so many channels.

        Raises:
            ValueError: nothing would be kept.
        """
        if round(channels / self.ratio) < 1:
            raise ValueError(f"a ratio of {self.ratio} leaves nothing of {channels} channels")
        return round(channels / self.ratio)


class MLP(Ratio):
    """The paper's: two layers with a SiLU between, on raw features."""

    kind: Literal["mlp"] = "mlp"
    # PAPER GAP (docs/vugen.md#reducer): depth and width are not given.
    hidden: int | None = None
    """Width between the layers; that of the features when not given."""

    def build(self, channels: int) -> Reducer:
        return MLPReducer(channels, self.hidden or channels, self.kept(channels))


class WhitenedMLP(Ratio):
    """Ours: the MLP starts behind a whitening of the features, beside a linear map that starts as the one from which
    the neighbouring pixels are reconstructed best by a linear map (reduced-rank regression)."""

    kind: Literal["whitened_mlp"] = "whitened_mlp"
    floor: float = Field(default=1e-6, gt=0)
    """Share of the largest variance that is added to all, so that noise is not blown up."""

    def build(self, channels: int) -> Reducer:
        return WhitenedMLPReducer(channels, self.kept(channels), self.floor)


class PCA(Ratio):
    """The directions of largest variance; nothing is learnt."""

    kind: Literal["pca"] = "pca"

    def build(self, channels: int) -> Reducer:
        return PCAReducer(channels, self.kept(channels))


class Identity(Config):
    """The features as they are, ratio 1."""

    kind: Literal["identity"] = "identity"

    def build(self, channels: int) -> Reducer:
        return IdentityReducer(channels)


Reduce = Annotated[MLP | WhitenedMLP | PCA | Identity, Field(discriminator="kind")]


class MLPReducer(Reducer):
    """`Linear -> SiLU -> Linear`, biases throughout, no norm at the end."""

    def __init__(self, channels: int, hidden: int, kept: int) -> None:
        super().__init__()
        self.channels = kept
        self.first, self.last = nn.Linear(channels, hidden), nn.Linear(hidden, kept)

    def forward(self, features: Float[Tensor, "b n c"]) -> Float[Tensor, "b n d"]:
        return self.last(F.silu(self.first(features)))


class WhitenedMLPReducer(Reducer):
    """`skip(x) + last(silu(whiten(x)))`; all three layers learn, `last` from zero."""

    def __init__(self, channels: int, kept: int, floor: float) -> None:
        super().__init__()
        self.channels, self.floor = kept, floor
        self.skip = nn.Linear(channels, kept)
        self.whiten, self.last = nn.Linear(channels, channels), nn.Linear(channels, kept)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Float[Tensor, "b n c"]) -> Float[Tensor, "b n d"]:
        return self.skip(features) + self.last(F.silu(self.whiten(features)))

    @torch.no_grad()
    def start(self, samples: Samples) -> None:
        """Whitening: rows u / sqrt(variance). Regression: the top left singular vectors of the cross-covariance of
        whitened features and pixels; what it returns has variance 1 (Izenman 1975)."""
        moments = moments_of((features, neighbouring_pixels(images, features)) for features, images in samples)
        variances, rows = moments.directions(self.floor)
        whitening = rows / variances.sqrt()[:, None]
        best = torch.linalg.svd(whitening @ moments.cross, full_matrices=False).U[:, : self.channels]
        _set(self.whiten, whitening, moments.mean)
        _set(self.skip, best.T @ whitening, moments.mean)


class PCAReducer(Reducer):
    """`(x - mean) Wᵀ` with orthonormal rows of W; frozen."""

    mean: Float[Tensor, "c"]
    rows: Float[Tensor, "d c"]

    def __init__(self, channels: int, kept: int) -> None:
        super().__init__()
        self.channels = kept
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("rows", torch.eye(kept, channels))

    def forward(self, features: Float[Tensor, "b n c"]) -> Float[Tensor, "b n d"]:
        return (features - self.mean) @ self.rows.T

    @torch.no_grad()
    def start(self, samples: Samples) -> None:
        moments = moments_of((features, None) for features, _ in samples)
        self.mean.copy_(moments.mean)
        self.rows.copy_(moments.directions()[1][: self.channels])


class IdentityReducer(Reducer):
    """Features as latents."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, features: Float[Tensor, "b n c"]) -> Float[Tensor, "b n d"]:
        return features


class ChannelNorm(nn.Module):
    """Latents of mean 0 and variance 1 per channel, and back; the identity until its statistics are set.

    The tower computes on normalised latents, the pixel decoder never does: what is sampled goes through `inverse` once.
    """

    mean: Float[Tensor, "d"]
    variance: Float[Tensor, "d"]
    EPSILON = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.full((channels,), 1 - self.EPSILON))

    def set(self, moments: Moments) -> None:
        """Take the statistics of reduced features."""
        self.mean.copy_(moments.mean)
        self.variance.copy_(moments.variance)

    def forward(self, reduced: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        return (reduced - self.mean) / (self.variance + self.EPSILON).sqrt()

    def inverse(self, latents: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        return latents * (self.variance + self.EPSILON).sqrt() + self.mean


def moments_of(batches: Iterable[tuple[Tensor, Tensor | None]]) -> Moments:
    """The moments of all batches of tokens, with or without targets.

    Raises:
        ValueError: there is no batch.
    """
    parts = (Moments.of(x, y) for x, y in batches)
    first = next(parts, None)
    if first is None:
        raise ValueError("statistics need at least one batch of images")
    return reduce(add, parts, first)


def neighbouring_pixels(images: Float[Tensor, "b 3 h w"], features: Float[Tensor, "b n c"]) -> Float[Tensor, "b n q"]:
    """For every token of a square raster the pixels of its patch and the eight around it, grey beyond the rim."""
    side = images.shape[-1] // round(features.shape[1] ** 0.5)
    return F.unfold(images, 3 * side, padding=side, stride=side).mT


def _set(layer: nn.Linear, weight: Tensor, mean: Tensor) -> None:
    """Make the layer compute `weight (x - mean)`."""
    layer.weight.copy_(weight)
    layer.bias.copy_(-weight @ mean)
