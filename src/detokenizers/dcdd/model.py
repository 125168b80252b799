"""DCDD (Distribution-Conditioned Diffusion Decoding): a diffusion decoder that draws not from the tokens that a frozen
VLM sampled, but from the distributions it sampled them from.

tokens, observed by LCDM -CondEncoder-> condition -FlowDecoder(space, net)-> images
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from ..checkpoint import (
    DECODER,
    load_strictly,
    load_tensors,
    save_tensors,
    settings_in,
    weights_fingerprint,
    write_text,
)
from ..config import Config
from ..decoder import FlowDecoder, Temperature
from ..pretrained.flux.scope import Attention, Scope
from ..pretrained.flux.transformer import FluxNet, PretrainedFlux
from ..pretrained.spaces import PretrainedVAE, Space
from .calibration import Calibration
from .condition import CondConfig, CondEncoder
from .distribution_decoder import CODEBOOK, WEIGHTS, DistributionDecoder
from .lcdm import LCDM, Expectation


class DCDDConfig(Config):
    """Every choice that decides what a DCDD decoder computes, in the order of the data."""

    kind: Literal["dcdd"] = "dcdd"
    lcdm: LCDM = Expectation()
    """What is kept of a token's distribution."""
    calibration: Calibration = Calibration()
    """How certain the encoder's distributions are made, found by `detok calibrate`."""
    condition: CondConfig = CondConfig()
    net: FluxNet = PretrainedFlux()
    scope: Scope = Attention()
    """What of the net learns."""
    space: Space = PretrainedVAE(subfolder="vae")
    token_stride: int = 16
    """Pixels per VLM token."""
    steps: int = Field(default=30, ge=1)
    """Sampling steps unless a caller asks for others; the paper's 30."""
    temperature: Temperature = 1.0

    @model_validator(mode="before")
    @classmethod
    def _read_older_settings(cls, settings: Any) -> Any:
        """`lcdm` was called `reading` before, and its `uncertainty` was called `lcdm`."""
        if not isinstance(settings, dict) or "reading" not in settings:
            return settings
        reading = settings["reading"]
        if isinstance(reading, dict):
            reading = {"uncertainty" if name == "lcdm" else name: value for name, value in reading.items()}
        return {"lcdm": reading, **{name: value for name, value in settings.items() if name != "reading"}}

    def build(self, codebook: Float[Tensor, "v d"]) -> DCDD:
        """A decoder ready to train: pretrained weights where the config names them, random ones elsewhere.

        Raises:
            ValueError: when codebook rows are not unit vectors, or net and space do not fit each other.
        """
        space, d = self.space.build(), codebook.shape[1]
        encoder = CondEncoder(self.condition, self.lcdm.num_features(d), d)
        net = self.net.build(encoder.channels_per_token, space.encode)
        if (net.channels, net.stride) != (space.channels, space.stride):
            raise ValueError(
                f"the net draws {net.channels} channels at stride {net.stride}, but the space has "
                f"{space.channels} at stride {space.stride}; set net.latent_channels and net.stride"
            )
        net.learn(self.scope)
        return DCDD(
            codebook,
            encoder,
            FlowDecoder(space, net, temperature=self.temperature),
            lcdm=self.lcdm,
            calibration=self.calibration,
            token_stride=self.token_stride,
            steps=self.steps,
            config=self,
        )


class DCDD(DistributionDecoder):
    """The paper's decoder, or any other net and space behind its condition encoder."""

    encoder: CondEncoder
    config: DCDDConfig | None

    def fingerprint(self) -> str:
        """Twelve digits of all weights and settings, those of the image space included."""
        settings = [self.lcdm, self.calibration, self.encoder.config, self.decoder.grid]
        settings += [self.config.net] if self.config else []
        parts = [one.model_dump_json() for one in settings]
        parts += [f"{self.token_stride}", self.decoder.space.fingerprint()]
        parts += [weights_fingerprint({**self.state_dict(), "codebook": self.codebook})]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]

    def learned(self) -> dict[str, Tensor]:
        """The tensors that a run folder must hold: all but the space and, over released weights, what stayed frozen."""
        fixed = {name for name, p in self.named_parameters() if not p.requires_grad and not name.startswith("encoder.")}
        released = fixed if self.config and self.config.net.released else set()
        return {
            name: tensor
            for name, tensor in self.state_dict().items()
            if name not in released and not name.startswith("decoder.space.")
        }

    def save(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write config, codebook and learned weights (as `dtype`, if given); a local space is copied along.

        Raises:
            ValueError: it was put together from parts that no config describes.
        """
        if self.config is None:
            raise ValueError(
                "this DCDD has no config to load it by; build it with DCDDConfig(...).build(codebook), "
                "or save its state_dict() and put the same parts together again"
            )
        folder = Path(folder)
        config = self.config.vary(space=self.config.space.kept(self.decoder.space, folder))
        save_tensors(folder / CODEBOOK, {"codebook": self.codebook})
        save_tensors(folder / WEIGHTS, self.learned(), dtype=dtype)
        write_text(folder / DECODER, config.to_yaml())

    @classmethod
    def load(cls, folder: str | Path) -> DCDD:
        """Read a saved decoder back, frozen and ready to draw.

        Raises:
            ValueError: when a file is missing, damaged, or belongs to another config.
        """
        folder, settings = Path(folder), settings_in(Path(folder))
        config = DCDDConfig.from_yaml(settings)
        config = config.vary(space=config.space.within(folder))
        codebook = load_tensors(folder / CODEBOOK)["codebook"]
        dcdd = config.vary(net=config.net.stored()).build(codebook)
        dcdd.config = config
        given = dcdd.state_dict().keys() - dcdd.learned().keys()
        load_strictly(dcdd, load_tensors(folder / WEIGHTS), folder / WEIGHTS, optional=given)
        net: Any = dcdd.decoder.net
        net.freeze()
        return dcdd.requires_grad_(False).eval()
