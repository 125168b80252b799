"""Two ways from tokens to pixels. `FlowDecoder` draws in an image space by following a conditioned velocity net;
`CodeDecoder` is the plain decoder that the VLM's tokenizer ships with, the baseline of every table.

Two ceilings to compare them with: `FeatureDecoder` is the plain one without the rounding to codes, which no decoder of
the same tokens can know; `SpaceDecoder` is the image space alone, finer than which no decoder in it can draw. Both need
what only a picture has, so they reconstruct and cannot generate.

condition [b k hc wc], seeds -noise, euler(net)-> latents -space.decode-> images ; ids -codebook-> codes -> images
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from .flow.loss import velocity_error
from .flow.noise import noise as draw_noise
from .flow.path import clean_from, interpolate, velocity
from .flow.solvers import OnStep, Progress, Solver, euler
from .flow.time_grids import TimeGrid
from .protocols import ImageSpace, Observe, VelocityNet, VisualTokenizer, VisualTokens

Temperature = Annotated[float, Field(ge=0)]
"""Scales the starting noise when a flow draws; it learns at 1. Ours, none of the papers' (docs/vugen.md#temperature)."""


class ConditionedNet(Protocol):
    """A `VelocityNet` whose condition is still to be bound: `net(noisy, t, condition)`."""

    def __call__(
        self, noisy: Float[Tensor, "b ..."], t: Float[Tensor, "b"], condition: Float[Tensor, "b ..."], /
    ) -> Float[Tensor, "b ..."]: ...


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
        temperature: scales the starting noise; 1 samples what was learnt, 0 draws one image a condition, without the noise
            that sampling leaves on flat surfaces.
    """

    def __init__(
        self,
        space: ImageSpace,
        net: ConditionedNet,
        grid: TimeGrid = TimeGrid(),  # noqa: B008
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.space, self.net, self.grid, self.temperature = space, net, grid, temperature

    def bind(self, condition: Float[Tensor, "b ..."]) -> VelocityNet:
        """The net with its condition, as solvers follow it."""
        return lambda noisy, t: self.net(noisy, t, condition)

    @torch.no_grad()
    def sample(self, condition: Float[Tensor, "b k hc wc"], **sampling: Any) -> Float[Tensor, "b 3 h w"]:
        """Draw one image per condition; arguments and errors are those of `latents`."""
        return self.space.decode(self.latents(condition, **sampling))

    @torch.no_grad()
    def latents(
        self,
        condition: Float[Tensor, "b k hc wc"],
        *,
        size: tuple[int, int],
        seeds: Sequence[int],
        steps: int = 30,
        solver: Solver = euler,
        progress: Progress | None = None,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, "b c hl wl"]:
        """The latents of one image per condition (DCDD Eqs. 24-25).

        Args:
            condition: what to draw, as the net reads it.
            size: height and width of the images in pixels.
            seeds: one per item; item i depends on its own condition and seed alone.
            steps: net calls (twice as many for `heun`).
            solver: how to follow the velocity.
            progress: wraps the loop over steps, e.g. `tqdm`.
            on_step: called after every step, with the state that it may replace.

        Raises:
            ValueError: seeds that do not match, or numbers that are not finite, before or after drawing.
        """
        if len(seeds) != len(condition):
            raise ValueError(f"{len(condition)} images need as many seeds, got {len(seeds)}")
        shape = (self.space.channels, *(side // self.space.stride for side in size))
        start = self.temperature * draw_noise(shape, seeds, device=condition.device)
        times = self.grid(steps, shape).to(start.device)
        _require_finite(condition, "the condition is", "what was observed of these tokens is damaged; draw them again")
        latents = solver(self.bind(condition), start, times, progress, on_step)
        _require_finite(
            latents,
            "the drawn latents are",
            "the decoder's weights are damaged, or their precision overflows; use float32 (or bfloat16 on a GPU)",
        )
        return latents

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

    source: Literal["tokens"] = "tokens"
    steps = None
    observers: Mapping[str, Observe] = MappingProxyType({})
    needs: frozenset[str] = frozenset()

    def __init__(self, tokenizer: VisualTokenizer) -> None:
        super().__init__()
        self.tokenizer: VisualTokenizer = tokenizer

    def read(self, images: Float[Tensor, "b 3 h w"], tokenizer: VisualTokenizer) -> VisualTokens:
        """Tokens of pictures."""
        return VisualTokens(tokenizer.tokens(tokenizer.features(images)), tokenizer.grid)

    @torch.no_grad()
    def forward(
        self, tokens: VisualTokens, *, steps: int | None = None, seeds: Sequence[int] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """Decode the ids; what was observed beside them changes nothing.

        Raises:
            ValueError: when the tokens come from another tokenizer.
        """
        return self.decode(self.latents(tokens))

    def latents(self, tokens: VisualTokens, **sampling: object) -> Float[Tensor, "b n d"]:
        """The codes of the ids; there are no steps, so `steps`, `seeds` and the like change nothing."""
        codebook = self.tokenizer.codebook
        if tokens.grid != self.tokenizer.grid:
            raise ValueError(f"this tokenizer draws {self.tokenizer.grid} tokens, these are {tokens.grid}")
        if len(tokens) and not 0 <= int(tokens.ids.min()) <= int(tokens.ids.max()) < len(codebook):
            low, high = int(tokens.ids.min()), int(tokens.ids.max())
            raise ValueError(
                f"token ids run from {low} to {high} but this codebook has {len(codebook)} codes; "
                "do tokenizer and VLM belong together?"
            )
        return codebook[tokens.ids.to(codebook.device)]

    @torch.no_grad()
    def decode(
        self, latents: Float[Tensor, "b n d"], *, seeds: Sequence[int] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """Images of codes, or of features."""
        return self.tokenizer.decode(latents)

    def require(self, tokenizer: VisualTokenizer) -> None:
        require_same_codes(self.tokenizer.codebook, tokenizer)

    def fingerprint(self) -> str:
        return self.tokenizer.fingerprint()


class FeatureDecoder(CodeDecoder):
    """The VLM's own decoder on its encoder's features before they are rounded to codes: the ceiling of a table.

    Only a picture has such features; tokens that a VLM sampled have none.
    """

    needs = frozenset({"features"})

    def read(self, images: Float[Tensor, "b 3 h w"], tokenizer: VisualTokenizer) -> VisualTokens:
        """Tokens of pictures, with the features themselves."""
        features = tokenizer.features(images)
        return VisualTokens(tokenizer.tokens(features), tokenizer.grid, {"features": features})

    def latents(self, tokens: VisualTokens, **sampling: object) -> Float[Tensor, "b n d"]:
        """The features that `read` kept."""
        return needed(tokens, "features")


class SpaceDecoder(nn.Module):
    """Pictures into an image space and back: the ceiling of all decoders that draw in it.

    Like the features, the latents of a picture are nothing that tokens of a VLM come with.
    """

    source: Literal["tokens"] = "tokens"
    steps = None
    observers: Mapping[str, Observe] = MappingProxyType({})
    needs: frozenset[str] = frozenset({"latents"})

    def __init__(self, space: ImageSpace) -> None:
        super().__init__()
        self.space = space

    def read(self, images: Float[Tensor, "b 3 h w"], tokenizer: VisualTokenizer) -> VisualTokens:
        """Tokens of pictures, with the latents of their patches."""
        latents, grid = self.space.encode(images), tokenizer.grid
        if latents.shape[-2] % grid.height or latents.shape[-1] % grid.width:
            raise ValueError(f"{list(latents.shape[-2:])} latents cannot be shared out among {grid} tokens")
        patches = F.pixel_unshuffle(latents, latents.shape[-1] // grid.width).flatten(2).mT
        return VisualTokens(tokenizer.tokens(tokenizer.features(images)), grid, {"latents": patches})

    @torch.no_grad()
    def forward(
        self, tokens: VisualTokens, *, steps: int | None = None, seeds: Sequence[int] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """Decode the latents that `read` kept."""
        return self.decode(self.latents(tokens))

    def latents(self, tokens: VisualTokens, **sampling: object) -> Float[Tensor, "b c hl wl"]:
        """The latents that `read` kept."""
        patches = needed(tokens, "latents").mT.unflatten(2, tuple(tokens.grid))
        return F.pixel_shuffle(patches, math.isqrt(patches.shape[1] // self.space.channels))

    @torch.no_grad()
    def decode(
        self, latents: Float[Tensor, "b c hl wl"], *, seeds: Sequence[int] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """Images of latents."""
        return self.space.decode(latents)

    def require(self, tokenizer: VisualTokenizer) -> None:
        """Any tokenizer will do: its codes are not used."""

    def fingerprint(self) -> str:
        return self.space.fingerprint()


def needed(
    tokens: VisualTokens, name: str, how: str = "only pictures that were read have them"
) -> Float[Tensor, "b n o"]:
    """What was observed of tokens under a name.

    Raises:
        ValueError: nothing was; `how` is the way to tokens of which something is.
    """
    if name not in tokens.observed:
        has = f"have {', '.join(tokens.observed)}, not" if tokens.observed else "come without"
        raise ValueError(f"these tokens {has} {name}; {how}")
    return tokens.observed[name]


def require_same_codes(own: Float[Tensor, "v d"], tokenizer: VisualTokenizer) -> None:
    """Refuse a tokenizer with another codebook than a decoder's own.

    Raises:
        ValueError: other codes, or another number of them.
    """
    drawn = tokenizer.codebook.to(own)
    if own.shape != drawn.shape:
        raise ValueError(
            f"this decoder was trained for {own.shape[0]} codes of {own.shape[1]} numbers, but this VLM has "
            f"{drawn.shape[0]} of {drawn.shape[1]}; name the --vlm it belongs to"
        )
    if not torch.allclose(own, drawn, atol=1e-2):
        raise ValueError("this decoder was trained for another codebook of the same size; name the --vlm it belongs to")


def _require_finite(x: Tensor, what: str, why: str) -> None:
    if not bool(torch.isfinite(x).all()):
        raise ValueError(f"{what} not finite: {why}")
