"""Two ways from tokens to pixels. `FlowDecoder` draws in a latent space by following a conditioned velocity net;
`CodeDecoder` is the plain decoder that the VLM's tokenizer ships with, the baseline of every table.

Two ceilings to hold them against: `FeatureDecoder` is the plain one without the rounding to codes, which no decoder of
the same tokens may be expected to know; `SpaceDecoder` is the latent space alone, finer than which none in it can draw.

condition [b k hc wc], seeds -noise, euler(net)-> latents -space.decode-> images ; ids -codebook-> codes -> images
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .flow.loss import velocity_error
from .flow.noise import noise as draw_noise
from .flow.path import clean_from, interpolate, velocity
from .flow.solvers import Progress, Solver, euler
from .flow.time_grids import TimeGrid
from .protocols import ImageSpace, Velocity, VelocityNet, VisualTokenizer, VisualTokens


class Prediction(NamedTuple):
    """What a net predicted at one point of the path; losses of any kind start from it."""

    noisy: Float[Tensor, "b ..."]
    t: Float[Tensor, "b"]
    velocity: Float[Tensor, "b ..."]

    @property
    def clean(self) -> Float[Tensor, "b ..."]:
        """The clean end of the line through `noisy`."""
        return clean_from(self.noisy, self.velocity, self.t)


class FlowDecoder(nn.Module):
    """A conditioned flow in an image space.

    Args:
        space: where it draws.
        net: its velocity, the condition still to be bound.
        grid: the times of sampling.
    """

    def __init__(self, space: ImageSpace, net: VelocityNet, grid: TimeGrid = TimeGrid()) -> None:  # noqa: B008
        super().__init__()
        self.space, self.net, self.grid = space, net, grid

    def bound(self, condition: Float[Tensor, "b ..."]) -> Velocity:
        """The net with its condition, as solvers follow it."""
        return lambda noisy, t: self.net(noisy, t, condition)

    @torch.no_grad()
    def sample(
        self,
        condition: Float[Tensor, "b k hc wc"],
        *,
        size: tuple[int, int],
        seeds: Sequence[int],
        steps: int = 30,
        solver: Solver = euler,
        progress: Progress | None = None,
    ) -> Float[Tensor, "b 3 h w"]:
        """Draw one image per condition (DCDD Eqs. 24-25).

        Args:
            condition: what to draw, as the net reads it.
            size: height and width of the images in pixels.
            seeds: one per item; item i depends on its own condition and seed alone.
            steps: net calls (twice as many for `heun`).
            solver: how to follow the velocity.
            progress: wraps the loop over steps, e.g. `tqdm`.

        Raises:
            ValueError: seeds that do not match, or numbers that are not finite, before or after drawing.
        """
        if len(seeds) != len(condition):
            raise ValueError(f"{len(condition)} images need as many seeds, got {len(seeds)}")
        shape = (self.space.channels, *(side // self.space.stride for side in size))
        start = draw_noise(shape, seeds, device=condition.device)
        times = self.grid(steps, shape).to(start.device)
        _require_finite(condition, "the condition is", "the beliefs these tokens carry are damaged; draw them again")
        latents = solver(self.bound(condition), start, times, progress)
        _require_finite(
            latents,
            "the drawn latents are",
            "the decoder's weights are damaged, or their precision overflows; use float32 (or bfloat16 on a GPU)",
        )
        return self.space.decode(latents)

    def predict(
        self,
        clean: Float[Tensor, "b c h w"],
        noise: Float[Tensor, "b c h w"],
        t: Float[Tensor, "b"],
        condition: Float[Tensor, "b k hc wc"],
    ) -> Prediction:
        """The net's velocity on the path between clean latents and noise; gradients flow."""
        noisy = interpolate(clean, noise, t)
        return Prediction(noisy, t, self.net(noisy, t, condition))


def flow_error(
    prediction: Prediction, clean: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."]
) -> Float[Tensor, "b"]:
    """How wrong a predicted velocity is (DCDD Eq. 26 before its average), in fp32."""
    return velocity_error(prediction.velocity, velocity(clean, noise))


class CodeDecoder(nn.Module):
    """What the VLM ships with: ids to code vectors to pixels. Deterministic, so steps and seeds change nothing."""

    def __init__(self, tokenizer: VisualTokenizer) -> None:
        super().__init__()
        self.tokenizer: VisualTokenizer = tokenizer

    @torch.no_grad()
    def forward(
        self, tokens: VisualTokens, *, steps: int | None = None, seeds: Sequence[int] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """Decode the ids; beliefs, if any, are not looked at.

        Raises:
            ValueError: when the tokens come from another tokenizer.
        """
        codebook = self.tokenizer.codebook
        if tokens.grid != self.tokenizer.grid:
            raise ValueError(f"this tokenizer draws {self.tokenizer.grid} tokens, these are {tokens.grid}")
        if len(tokens) and not 0 <= int(tokens.ids.min()) <= int(tokens.ids.max()) < len(codebook):
            low, high = int(tokens.ids.min()), int(tokens.ids.max())
            raise ValueError(
                f"token ids run from {low} to {high} but this codebook has {len(codebook)} codes; "
                "do tokenizer and VLM belong together?"
            )
        return self.tokenizer.decode(codebook[tokens.ids.to(codebook.device)])


class FeatureDecoder(nn.Module):
    """The VLM's own decoder on its encoder's features before they are rounded to codes: the ceiling of a table.

    Only a picture has such features; tokens that a VLM drew have none.
    """

    def __init__(self, tokenizer: VisualTokenizer) -> None:
        super().__init__()
        self.tokenizer: VisualTokenizer = tokenizer

    def read(self, images: Float[Tensor, "b 3 h w"], tokenizer: VisualTokenizer) -> VisualTokens:
        """Tokens of images, observed as the features themselves."""
        features = tokenizer.features(images)
        return VisualTokens(tokenizer.tokens(features), tokenizer.grid, features)

    @torch.no_grad()
    def forward(
        self, tokens: VisualTokens, *, steps: int | None = None, seeds: Sequence[int] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """Decode the features that `read` kept."""
        if tokens.observed is None:
            raise ValueError("these tokens come without features; only pictures that were read have them")
        return self.tokenizer.decode(tokens.observed)


class SpaceDecoder(nn.Module):
    """Pictures into an image space and back: the ceiling of all decoders that draw in it.

    Like the features, the latents of a picture are nothing that tokens of a VLM come with.
    """

    def __init__(self, space: ImageSpace) -> None:
        super().__init__()
        self.space = space

    def read(self, images: Float[Tensor, "b 3 h w"], tokenizer: VisualTokenizer) -> VisualTokens:
        """Tokens of images, observed as the latents of their patches."""
        latents, grid = self.space.encode(images), tokenizer.grid
        if latents.shape[-2] % grid.height or latents.shape[-1] % grid.width:
            raise ValueError(f"{list(latents.shape[-2:])} latents cannot be shared out among {grid}")
        patches = F.pixel_unshuffle(latents, latents.shape[-1] // grid.width)
        return VisualTokens(tokenizer.tokens(tokenizer.features(images)), grid, patches.flatten(2).mT)

    @torch.no_grad()
    def forward(
        self, tokens: VisualTokens, *, steps: int | None = None, seeds: Sequence[int] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """Decode the latents that `read` kept."""
        if tokens.observed is None:
            raise ValueError("these tokens come without latents; only pictures that were read have them")
        patches = tokens.observed.mT.unflatten(2, tuple(tokens.grid))
        return self.space.decode(F.pixel_shuffle(patches, math.isqrt(patches.shape[1] // self.space.channels)))


def _require_finite(x: Tensor, what: str, why: str) -> None:
    if not bool(torch.isfinite(x).all()):
        raise ValueError(f"{what} not finite: {why}")
