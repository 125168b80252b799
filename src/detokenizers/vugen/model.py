"""VUGEN (arXiv 2510.06529): a frozen VLM draws by sampling in its own understanding space.

P(image | prompt) is the integral of P(image | latents) P(latents | prompt) over latents: the generation tower samples
them as a guided flow over the VLM's cache of the prompt; a decoder turns them into pixels, in one step if distilled.

prompts -VLM, once-> text cache -tower, euler-> latents [b n d] -target.decode-> images
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from ..checkpoint import DECODER, fingerprint, load_into, save_tensors, write_text
from ..config import Config
from ..flow.guidance import guided
from ..flow.noise import noise
from ..flow.solvers import OnStep, Progress, euler
from ..flow.time_grids import TimeGrid
from ..flow.time_shifts import SquareRootShift, TimeShift
from ..hub.on_hub import OnHub
from ..pretrained.vlm.feature_vlm import FeatureVLM, View
from ..pretrained.vlm.load_features import load_feature_vlm
from ..seeds import mixed
from .autoencoder import Autoencoder, require_vlm
from .reconstruction import Reconstruction
from .targets import Target, TargetConfig, Understanding
from .tower import Tower, TowerConfig

TOWER = "tower.safetensors"


class VUGENConfig(Config):
    """Every choice that decides what a trained model draws, in the order of the data."""

    kind: Literal["vugen"] = "vugen"
    vlm: str = "mini"
    """The frozen VLM whose language model reads prompts and was copied: `mini`, a folder, or a Hub id."""
    vlm_fingerprint: str = ""
    """Of that VLM; written when the model is saved."""
    view: View = View()
    tower: TowerConfig = TowerConfig()
    target: TargetConfig = Understanding()
    # PAPER GAP (docs/vugen.md#sampler): shift, number of steps and solver are not given.
    shift: TimeShift = SquareRootShift()
    """Of the times of training and sampling, by the numbers of one item."""
    steps: int = Field(default=50, ge=1)
    """Sampling steps unless a caller asks for others."""
    guidance: float = Field(default=5.0, ge=0)
    """Classifier-free guidance unless a caller asks for another: 5 for captions, 1.8 for ImageNet's classes."""

    def build(self, vlm: FeatureVLM, target: Target | None = None) -> VUGEN:
        """A model whose tower is a fresh copy of the VLM's language model."""
        target = target or self.target.build(vlm)
        return VUGEN(self, vlm, target, Tower(vlm.language_model, target.channels, target.grid, self.tower))


class VUGEN(nn.Module, OnHub):
    """A `TextToImage`. The VLM is only read: nothing here changes its weights, its code or its mode."""

    source: Literal["prompts"] = "prompts"
    options = frozenset({"guidance"})
    vlm: FeatureVLM
    target: Target

    def __init__(self, config: VUGENConfig, vlm: FeatureVLM, target: Target, tower: Tower) -> None:
        super().__init__()
        self.config, self.vlm, self.target, self.tower = config, vlm, target, tower
        self.steps = config.steps

    @property
    def reader(self) -> Reconstruction | None:
        """Reducer and decoder, where it samples understanding features; the VAE of a baseline is a decoder already."""
        return Reconstruction(self.target) if isinstance(self.target, Autoencoder) else None

    @torch.no_grad()
    def forward(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int] | None = None,
        guidance: float | None = None,
        steps: int | None = None,
        batch_size: int = 16,
        progress: Progress | None = None,
    ) -> Float[Tensor, "b 3 h w"]:
        """Draw one image per prompt, in [-1, 1]; `seeds` has one number per image, by default 0, 1, 2, ...

        Raises:
            ValueError: as many seeds as prompts are needed, and words of the VLM's vocabulary.
        """
        seeds = range(len(prompts)) if seeds is None else seeds
        if len(seeds) != len(prompts):
            raise ValueError(f"{len(prompts)} images need as many seeds, got {len(seeds)}")
        if not len(prompts):
            return torch.empty(0, 3, self.target.size, self.target.size)
        drawn = []
        for first in range(0, len(prompts), batch_size):
            some = slice(first, first + batch_size)
            latents = self.latents(prompts[some], seeds=seeds[some], guidance=guidance, steps=steps, progress=progress)
            drawn.append(self.decode(latents, seeds=seeds[some]))
        return torch.cat(drawn)

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "b n d"], *, seeds: Sequence[int]) -> Float[Tensor, "b 3 h w"]:
        """Images of normalised latents."""
        # Latents and pixels start from noise of their own, though they share an item's seed.
        return self.target.decode(latents, seeds=[mixed("pixels", seed) for seed in seeds])

    @torch.no_grad()
    def latents(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        guidance: float | None = None,
        steps: int | None = None,
        progress: Progress | None = None,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Normalised latents of prompts; `on_step` is called after every step."""
        guidance = self.config.guidance if guidance is None else guidance
        text = self.vlm.text_cache(prompts)
        nothing = self.vlm.text_cache([""]).expanded(len(prompts))
        velocity = guided(self.tower.bind(text), self.tower.bind(nothing), guidance)
        shape = (self.target.grid.size, self.target.channels)
        start = noise(shape, seeds, device=self.tower.positions.device)
        times = TimeGrid(shift=self.config.shift)(self.steps if steps is None else steps, shape).to(start.device)
        return euler(velocity, start, times, progress, on_step)

    def require(self, vlm: str) -> None:
        """Raise a ValueError when this is another VLM than its own."""
        if vlm == self.config.vlm:
            return
        with suppress(ValueError):  # what is no VLM with known features is no such VLM either
            other = load_feature_vlm(vlm, view=self.config.view, device=self.tower.positions.device)
            if other.fingerprint() == self.vlm.fingerprint():
                return
        raise ValueError(
            f"this tower was made for the VLM {self.config.vlm}, not for {vlm}; leave --vlm out, or name it"
        )

    def fingerprint(self) -> str:
        """Changes when weights or settings that decide pixels change."""
        ours = self.config.fingerprint() + self.target.fingerprint() + self.vlm.fingerprint()
        return fingerprint({**self.tower.state_dict(), ours: torch.zeros(1)})

    def save(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write config, tower and target (as `dtype`, if given); the VLM stays where it is."""
        folder, target = Path(folder), self.config.target.kept(self.target, Path(folder), dtype)  # pyright: ignore[reportArgumentType]
        save_tensors(folder / TOWER, self.tower.state_dict(), dtype=dtype)
        write_text(folder / DECODER, self.config.vary(target=target, vlm_fingerprint=self.vlm.fingerprint()).to_yaml())

    @classmethod
    def load(cls, folder: str | Path, vlm: FeatureVLM | None = None) -> VUGEN:
        """Read a saved model back, frozen; its VLM is loaded by name unless it is given.

        Raises:
            ValueError: a file is missing, damaged or of another config, or the VLM is another one.
        """
        folder = Path(folder)
        config = VUGENConfig.from_yaml(folder / DECODER)
        vlm = vlm or load_feature_vlm(config.vlm, view=config.view)
        require_vlm(vlm, config.vlm_fingerprint, f"the tower in {folder}")
        vugen = config.vary(target=config.target.within(folder)).build(vlm)
        vugen.config = config
        load_into(vugen.tower, folder / TOWER)
        return vugen.requires_grad_(False).eval()
