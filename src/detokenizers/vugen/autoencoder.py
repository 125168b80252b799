"""VUGEN §3.1 and §3.3: images to latents through the VLM's own vision tower and a reducer, and back by a decoder.

images -vision tower-> features -reducer, ChannelNorm-> latents [b n d] -inverse-> map [b d h w] -decoder-> images
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from ..checkpoint import DECODER, fingerprint, load_into, save_tensors, write_text
from ..config import Config
from ..decoder import FlowDecoder
from ..pretrained.vlm.feature_vlm import FeatureVLM, View
from ..pretrained.vlm.load_features import load_feature_vlm
from ..protocols import Grid
from .decoders import ImageDecoder, PixelDecoder
from .moments import Moments
from .reducers import MLP, ChannelNorm, Reduce, Reducer, Samples, moments_of

REDUCER, WEIGHTS = "reducer.safetensors", "decoder.safetensors"


class AutoencoderConfig(Config):
    """Every choice that decides what an autoencoder over understanding features computes, in the order of the data."""

    kind: Literal["vugen_autoencoder"] = "vugen_autoencoder"
    vlm: str = "mini"
    """The frozen VLM whose vision tower reads images: `mini`, a folder, or a Hub id."""
    vlm_fingerprint: str = ""
    """Of that VLM; written when the autoencoder is saved."""
    view: View = View()
    reducer: Reduce = MLP()
    decoder: ImageDecoder = PixelDecoder()
    size: int = Field(default=256, ge=8)
    """Side of the images it draws, in pixels."""

    def build(self, vlm: FeatureVLM) -> Autoencoder:
        """Random weights where nothing is pretrained."""
        reducer = self.reducer.build(vlm.channels)
        decoder = self.decoder.build(reducer.channels)
        return Autoencoder(self, vlm, reducer, decoder)


class Autoencoder(nn.Module):
    """What stage A trains, and what the generation tower samples in. The VLM is only read."""

    fp32 = ("reducer", "norm")
    vlm: FeatureVLM

    def __init__(self, config: AutoencoderConfig, vlm: FeatureVLM, reducer: Reducer, decoder: FlowDecoder) -> None:
        super().__init__()
        self.config, self.vlm = config, vlm
        self.reducer, self.decoder = reducer, decoder
        self.norm = ChannelNorm(reducer.channels)

    @property
    def size(self) -> int:
        """Side of the images it draws."""
        return self.config.size

    @property
    def grid(self) -> Grid:
        """Rows and columns of the latents."""
        return self.vlm.grid

    @property
    def channels(self) -> int:
        """d, of one latent."""
        return self.reducer.channels

    @torch.no_grad()
    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        """Images to normalised latents."""
        return self.norm(self.reducer(self.vlm.features(images).to(self.norm.mean)))

    @torch.no_grad()
    def decode(
        self, latents: Float[Tensor, "b n d"], *, seeds: Sequence[int], steps: int | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """Normalised latents to images in [-1, 1]."""
        return self.decoder.space.decode(self.drawn(latents, seeds=seeds, steps=steps))

    @torch.no_grad()
    def drawn(
        self,
        latents: Float[Tensor, "b n d"],
        *,
        seeds: Sequence[int],
        steps: int | None = None,
        **more: Any,
    ) -> Float[Tensor, "b c hl wl"]:
        """What the decoder draws of normalised latents, in its own space; `more` is for `FlowDecoder.latents`."""
        steps, size = self.config.decoder.steps if steps is None else steps, (self.size, self.size)
        condition = self.condition(self.norm.inverse(latents))
        return self.decoder.latents(condition, size=size, seeds=seeds, steps=steps, **more)

    def condition(self, reduced: Float[Tensor, "b n d"]) -> Float[Tensor, "b d hc wc"]:
        """Reduced features, not normalised, as the map that the decoder is conditioned on."""
        return reduced.mT.unflatten(2, tuple(self.grid))

    @torch.no_grad()
    def start(self, images: Iterable[Float[Tensor, "b 3 h w"]]) -> None:
        """Set what of the reducer is computed from images rather than learnt."""
        samples: Samples = ((self.vlm.features(some), some) for some in images)
        self.reducer.start(samples)

    def go_on_from(self, folder: Path) -> None:
        """Take the reducer of a trained one, which learns no more, so that towers over its latents stay valid; and its
        decoder's weights, which learn on, if its net is of these settings.

        Raises:
            ValueError: a file is missing, damaged or of another config, or the VLM was another one.
        """
        before = AutoencoderConfig.from_yaml(folder / DECODER)
        self._read(folder, before.vlm_fingerprint, net=before.decoder.net == self.config.decoder.net)
        self.reducer.requires_grad_(False)

    def _read(self, folder: Path, vlm: str, *, net: bool = True) -> None:
        require_vlm(self.vlm, vlm, f"the reducer in {folder}")
        load_into(self.small(), folder / REDUCER)
        if net:
            load_into(self.net, folder / WEIGHTS)

    @torch.no_grad()
    def measure(self, images: Iterable[Float[Tensor, "b 3 h w"]]) -> Moments:
        """Set the statistics of `ChannelNorm` to those of these images, once the reducer is what it will be."""
        device = self.norm.mean
        moments = moments_of((self.reducer(self.vlm.features(some).to(device)), None) for some in images)
        self.norm.set(moments)
        return moments

    def fingerprint(self) -> str:
        """Of all that decides latents and pixels."""
        weights = self.small().state_dict() | self.net.state_dict()
        return fingerprint(weights | {self.config.fingerprint() + self.vlm.fingerprint(): torch.zeros(1)})

    def small(self) -> nn.ModuleDict:
        """The parts that stay fp32: a whitening multiplies the rounding of what it divides by small numbers."""
        return nn.ModuleDict({"reducer": self.reducer, "norm": self.norm})

    @property
    def net(self) -> nn.Module:
        """The decoder's net."""
        net: Any = self.decoder.net
        return net

    def save(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write config and weights; those of the decoder's net as `dtype`, if given."""
        folder, decoder = Path(folder), self.config.decoder.kept(self.decoder, Path(folder))
        save_tensors(folder / REDUCER, self.small().state_dict())
        save_tensors(folder / WEIGHTS, self.net.state_dict(), dtype=dtype)
        config = self.config.vary(decoder=decoder, vlm_fingerprint=self.vlm.fingerprint())
        write_text(folder / DECODER, config.to_yaml())

    @classmethod
    def load(cls, folder: str | Path, vlm: FeatureVLM | None = None) -> Autoencoder:
        """Read a saved autoencoder back, frozen; its VLM is loaded by name unless it is given.

        Raises:
            ValueError: a file is missing, damaged or of another config, or the VLM is another one.
        """
        folder = Path(folder)
        config = AutoencoderConfig.from_yaml(folder / DECODER)
        vlm = vlm or load_feature_vlm(config.vlm, view=config.view)
        autoencoder = config.vary(decoder=config.decoder.within(folder)).build(vlm)
        autoencoder.config = config
        autoencoder._read(folder, config.vlm_fingerprint)
        return autoencoder.requires_grad_(False).eval()


def require_vlm(vlm: FeatureVLM, expected: str, what: str) -> None:
    """Raise a ValueError when something was trained on another VLM than this one."""
    if expected and vlm.fingerprint() != expected:
        raise ValueError(
            f"{what} was trained on another VLM (its weights or its view of images differ from this one's)"
        )
