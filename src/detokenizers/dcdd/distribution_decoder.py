"""A decoder that is conditioned on what was observed of tokens' distributions, whatever it draws in: the inference of
DCDD (Eqs. 5-25) around an encoder of the condition and a flow.

tokens, observed by LCDM -encoder-> condition -FlowDecoder(space, net)-> images
pictures -tokenizer's features, calibrated-> tokens with proxies, as if a VLM had sampled them
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..decoder import FlowDecoder, needed, require_same_codes
from ..hub.on_hub import OnHub
from ..protocols import Grid, VisualTokenizer, VisualTokens
from .calibration import Calibration, Observer, proxy_features, require_unit_rows
from .lcdm import LCDM, Expectation

WEIGHTS, CODEBOOK = "decoder.safetensors", "codebook.safetensors"


class ConditionEncoder(Protocol):
    """A module: observed features of a token grid to a condition map for latents of some height and width."""

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def __call__(
        self, observed: Float[Tensor, "b n o"], grid: Grid, latents: tuple[int, int], /
    ) -> Float[Tensor, "b k hc wc"]: ...


class DistributionDecoder(nn.Module, OnHub):
    """Calling it with tokens that were observed by `self.observers` gives images [b 3 h w] in [-1, 1].

    Args:
        codebook: the VLM's codes, unit rows.
        encoder: observed features to the condition map.
        decoder: an image space, and any net that draws in it from that map.
        lcdm: what is kept of a token's distribution; as many numbers as `encoder` reads.
        calibration: brings the encoder's distributions to the VLM's.
        token_stride: pixels per VLM token.
        steps: sampling steps unless a caller asks for others.
        config: the settings of these parts, where there are any: only such a decoder can be saved.
    """

    source: Literal["tokens"] = "tokens"
    fp32: tuple[str, ...] = ("codebook", "encoder")
    codebook: Float[Tensor, "v d"]

    def __init__(
        self,
        codebook: Float[Tensor, "v d"],
        encoder: ConditionEncoder,
        decoder: FlowDecoder,
        *,
        lcdm: LCDM = Expectation(),  # noqa: B008
        calibration: Calibration = Calibration(),  # noqa: B008
        token_stride: int = 16,
        steps: int = 30,
        config: Any = None,
    ) -> None:
        super().__init__()
        require_unit_rows(codebook)
        self.register_buffer("codebook", codebook.detach().float().clone(), persistent=False)
        self.encoder, self.decoder = encoder, decoder
        self.lcdm, self.calibration = lcdm, calibration
        self.token_stride, self.steps, self.config = token_stride, steps, config

    @torch.no_grad()
    def forward(self, tokens: VisualTokens, **sampling: Any) -> Float[Tensor, "b 3 h w"]:
        """Draw from tokens and what was observed of them; the arguments are those of `latents`."""
        return self.decode(self.latents(tokens, **sampling))

    @torch.no_grad()
    def latents(
        self,
        tokens: VisualTokens,
        *,
        steps: int | None = None,
        seeds: Sequence[int] | None = None,
        **more: Any,
    ) -> Float[Tensor, "b c hl wl"]:
        """The latents that are drawn from tokens; `seeds` has one number per image, by default 0, 1, 2, ..., and `more`
        is what `FlowDecoder.latents` takes: `solver`, `progress`, `on_step`."""
        condition = self.condition(tokens)  # Eqs. 19-20
        size = (tokens.grid.height * self.token_stride, tokens.grid.width * self.token_stride)
        seeds = range(len(tokens)) if seeds is None else seeds
        steps = self.steps if steps is None else steps
        return self.decoder.latents(condition, size=size, seeds=seeds, steps=steps, **more)

    @torch.no_grad()
    def decode(
        self, latents: Float[Tensor, "b c hl wl"], *, seeds: Sequence[int] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """Images of drawn latents."""
        return self.decoder.space.decode(latents)

    @property
    def observer(self) -> Observer:
        """LCDM and the VLM's side of the calibration, for the token loop (Eqs. 5-8)."""
        return Observer(self.lcdm, self.codebook, self.calibration)

    @cached_property
    def observation(self) -> str:
        """The name under which its observer's numbers are kept."""
        return self.observer.name

    @property
    def observers(self) -> Mapping[str, Observer]:
        """For `vlm.generate(..., observe=dcdd.observers)`."""
        return {self.observation: self.observer}

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({self.observation})

    def condition(self, tokens: VisualTokens) -> Float[Tensor, "b k hc wc"]:
        """The condition map of observed tokens (Eqs. 19-20)."""
        how = "generate them with observe=dcdd.observers, or read images with dcdd.read"
        return self.encode(needed(tokens, self.observation, how), tokens.grid)

    def encode(self, observed: Float[Tensor, "b n o"], grid: Grid) -> Float[Tensor, "b k hc wc"]:
        """Observed features on a token grid to the condition map; gradients flow."""
        pixels_per_latent = self.decoder.space.stride
        height, width = (side * self.token_stride // pixels_per_latent for side in grid)
        like = next(self.encoder.parameters(), self.codebook)  # bf16 in shards that compute in it
        return self.encoder(observed.to(like.device, like.dtype), grid, (height, width))

    def proxy(self, features: Float[Tensor, "b n d"], sampled: Tensor | None = None) -> Float[Tensor, "b n o"]:
        """LCDM of the encoder's calibrated distributions, which training uses in the VLM's place (Eqs. 9-15)."""
        return proxy_features(features, self.calibration, self.lcdm, self.codebook, sampled)

    @torch.no_grad()
    def read(self, images: Float[Tensor, "b 3 h w"], tokenizer: VisualTokenizer) -> VisualTokens:
        """Images to tokens with proxy features, as if a VLM had sampled them: the first half of a reconstruction."""
        features = tokenizer.features(images)
        observed = {self.observation: self.proxy(features.to(self.codebook))}
        return VisualTokens(tokenizer.tokens(features), tokenizer.grid, observed)

    def require(self, tokenizer: VisualTokenizer) -> None:
        require_same_codes(self.codebook, tokenizer)
