"""DCDD without FLUX and without a VAE: a U-ViT draws pixels, conditioned on the VLM's distributions.

The tokens' features (LCDM, calibrated) are laid out on their grid and are the U-ViT's condition map as they are. The
decoder has many steps, or one when it has been distilled: then it costs about what the VLM's own VQ decoder does.

tokens with observed features [b n o] -map-> [b o h w] -FlowDecoder(pixels, U-ViT)-> images
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from ..checkpoint import fingerprint, load_into, load_tensors, save_tensors, write_text
from ..config import Config
from ..decoder import FlowDecoder, require_same_codes, stages_of
from ..flow.solvers import Solver, euler
from ..flow.time_grids import TimeGrid
from ..flow.time_shifts import FixedShift
from ..nn.uvit import UViT, UViTConfig
from ..pretrained.spaces import Pixels
from ..protocols import Grid, Stage, VisualTokenizer, VisualTokens
from .calibration import Calibration, Observer, proxy_features, require_unit_rows
from .lcdm import LCDM, Expectation

CONFIG, WEIGHTS, CODEBOOK = "decoder.yaml", "decoder.safetensors", "codebook.safetensors"


class PixelDCDDConfig(Config):
    """Every choice that decides what it computes, in the order of the data."""

    kind: Literal["dcdd_pixels"] = "dcdd_pixels"
    lcdm: LCDM = Expectation()
    """What is kept of a token's distribution."""
    calibration: Calibration = Calibration()
    """How certain the encoder's distributions are made, found by `detok calibrate`."""
    net: UViTConfig = UViTConfig()
    """Its condition channels follow the LCDM's."""
    token_stride: int = Field(default=16, ge=1)
    """Pixels per VLM token."""
    steps: int = Field(default=8, ge=1)
    """Sampling steps unless a caller asks for others; a distilled one has 1."""
    power: float = Field(default=2.0, gt=0)
    """Of the sampling times: above 1 there are more steps near clean."""

    def build(self, codebook: Float[Tensor, "v d"]) -> PixelDCDD:
        """Random weights.

        Raises:
            ValueError: codebook rows are not unit vectors.
        """
        require_unit_rows(codebook)
        net = UViT(self.net.vary(condition=self.lcdm.num_features(codebook.shape[1])))
        return PixelDCDD(self, codebook, FlowDecoder(Pixels(), net, TimeGrid(shift=FixedShift(), power=self.power)))


class PixelDCDD(nn.Module):
    """A decoder of tokens that were observed by `self.observers`."""

    source: Literal["tokens"] = "tokens"
    codebook: Float[Tensor, "v d"]

    def __init__(self, config: PixelDCDDConfig, codebook: Tensor, decoder: FlowDecoder) -> None:
        super().__init__()
        self.config, self.decoder = config, decoder
        self.register_buffer("codebook", codebook.detach().float().clone(), persistent=False)
        self.steps = config.steps

    @property
    def observer(self) -> Observer:
        """LCDM and the VLM's side of the calibration, for the token loop (DCDD Eqs. 5-8)."""
        return Observer(self.config.lcdm, self.codebook, self.config.calibration)

    @cached_property
    def observation(self) -> str:
        """The name under which its observer's numbers are kept."""
        return self.observer.name

    @property
    def observers(self) -> Mapping[str, Observer]:
        """For `vlm.generate(..., observe=decoder.observers)`."""
        return {self.observation: self.observer}

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({self.observation})

    @property
    def net(self) -> nn.Module:
        """The U-ViT."""
        net: Any = self.decoder.net
        return net

    def proxy(self, features: Float[Tensor, "b n d"]) -> Float[Tensor, "b n o"]:
        """LCDM of the encoder's calibrated distributions, which training uses in the VLM's place (DCDD Eqs. 9-15)."""
        return proxy_features(features, self.config.calibration, self.config.lcdm, self.codebook)

    def condition(self, tokens: VisualTokens) -> Float[Tensor, "b o h w"]:
        """The condition map of observed tokens.

        Raises:
            ValueError: they were not observed, or not as this decoder needs it.
        """
        if self.observation not in tokens.observed:
            found = ", ".join(tokens.observed) or "nothing"
            raise ValueError(
                f"this decoder needs {self.observation} of its tokens, these carry {found}; "
                "generate them with observe=decoder.observers, or read images"
            )
        return self.encode(tokens.observed[self.observation], tokens.grid)

    def encode(self, observed: Float[Tensor, "b n o"], grid: Grid) -> Float[Tensor, "b o h w"]:
        """Observed features as a map.

        Raises:
            ValueError: there is another number of them, or they do not fill the grid.
        """
        wanted = self.config.lcdm.num_features(self.codebook.shape[1])
        if observed.shape[1:] != (grid.size, wanted):
            raise ValueError(
                f"expected [b {grid.size} {wanted}] observed features for a {grid} grid, got {list(observed.shape)}; "
                "were the tokens observed by this decoder's `observers`?"
            )
        return observed.to(self.codebook).mT.unflatten(2, tuple(grid))

    @torch.no_grad()
    def read(self, images: Float[Tensor, "b 3 h w"], tokenizer: VisualTokenizer) -> VisualTokens:
        """Images to tokens, as if a VLM had sampled them."""
        features = tokenizer.features(images)
        observed = {self.observation: self.proxy(features.to(self.codebook))}
        return VisualTokens(tokenizer.tokens(features), tokenizer.grid, observed)

    def require(self, tokenizer: VisualTokenizer) -> None:
        require_same_codes(self.codebook, tokenizer)

    @torch.no_grad()
    def forward(
        self,
        tokens: VisualTokens,
        *,
        steps: int | None = None,
        seeds: Sequence[int] | None = None,
        solver: Solver = euler,
    ) -> Float[Tensor, "b 3 h w"]:
        """Draw from tokens and what was observed of them; `seeds` has one number per image, by default 0, 1, 2, ..."""
        stride, seeds = self.config.token_stride, range(len(tokens)) if seeds is None else seeds
        return self.decoder.sample(
            self.condition(tokens),
            size=(tokens.grid.height * stride, tokens.grid.width * stride),
            seeds=seeds,
            steps=self.config.steps if steps is None else steps,
            solver=solver,
        )

    def stages(
        self, tokens: VisualTokens, *, steps: int | None = None, seeds: Sequence[int] | None = None
    ) -> list[Stage]:
        """The images that each sampling step points to; the last are what is drawn."""
        return stages_of(self.decoder.space, lambda solver: self(tokens, steps=steps, seeds=seeds, solver=solver))

    def fingerprint(self) -> str:
        """Changes when weights or settings that decide pixels change."""
        return fingerprint(
            {**self.net.state_dict(), "codebook": self.codebook, self.config.fingerprint(): torch.ones(1)}
        )

    def save(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write config, codebook and weights (as `dtype`, if given)."""
        folder = Path(folder)
        save_tensors(folder / CODEBOOK, {"codebook": self.codebook})
        save_tensors(folder / WEIGHTS, self.net.state_dict(), dtype=dtype)
        write_text(folder / CONFIG, self.config.to_yaml())

    @classmethod
    def load(cls, folder: str | Path) -> PixelDCDD:
        """Read a saved decoder back, frozen.

        Raises:
            ValueError: a file is missing, damaged, or of another config.
        """
        folder = Path(folder)
        built = PixelDCDDConfig.from_yaml(folder / CONFIG).build(load_tensors(folder / CODEBOOK)["codebook"])
        load_into(built.net, folder / WEIGHTS)
        return built.requires_grad_(False).eval()
