"""DCDD (Distribution-Conditioned Diffusion Decoding): a diffusion decoder that draws not from the tokens that a frozen
VLM sampled, but from the distributions it sampled them from.

tokens, observed by LCDM -CondEncoder-> condition -FlowDecoder(space, net)-> images
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from ..checkpoint import DECODER, load_tensors, save_tensors, settings_in, weights_fingerprint, write_text
from ..config import Config
from ..decoder import FlowDecoder, require_same_codes, stages_of
from ..flow.solvers import Progress, Solver, euler
from ..pretrained.flux.scope import Attention, Scope
from ..pretrained.flux.transformer import FluxNet, PretrainedFlux
from ..pretrained.spaces import PretrainedVAE, Space
from ..protocols import Grid, Stage, VisualTokenizer, VisualTokens
from .calibration import Calibration, Observer, proxy_features, require_unit_rows
from .condition import CondConfig, CondEncoder
from .lcdm import LCDM, Expectation

WEIGHTS, CODEBOOK = "decoder.safetensors", "codebook.safetensors"


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
            FlowDecoder(space, net),
            lcdm=self.lcdm,
            calibration=self.calibration,
            token_stride=self.token_stride,
            steps=self.steps,
            config=self,
        )


class DCDD(nn.Module):
    """The decoder. Calling it with tokens that were observed by `self.observers` gives images [b 3 h w] in [-1, 1].

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
    codebook: Float[Tensor, "v d"]

    def __init__(
        self,
        codebook: Float[Tensor, "v d"],
        encoder: CondEncoder,
        decoder: FlowDecoder,
        *,
        lcdm: LCDM = Expectation(),  # noqa: B008
        calibration: Calibration = Calibration(),  # noqa: B008
        token_stride: int = 16,
        steps: int = 30,
        config: DCDDConfig | None = None,
    ) -> None:
        super().__init__()
        require_unit_rows(codebook)
        self.register_buffer("codebook", codebook.detach().float().clone(), persistent=False)
        self.encoder, self.decoder = encoder, decoder
        self.lcdm, self.calibration = lcdm, calibration
        self.token_stride, self.steps, self.config = token_stride, steps, config

    @torch.no_grad()
    def forward(
        self,
        tokens: VisualTokens,
        *,
        steps: int | None = None,
        seeds: Sequence[int] | None = None,
        solver: Solver = euler,
        progress: Progress | None = None,
    ) -> Float[Tensor, "b 3 h w"]:
        """Draw from tokens and what was observed of them; `seeds` has one number per image, by default 0, 1, 2, ..."""
        condition = self.condition(tokens)  # Eqs. 19-20
        size = (tokens.grid.height * self.token_stride, tokens.grid.width * self.token_stride)
        seeds = range(len(tokens)) if seeds is None else seeds
        steps = self.steps if steps is None else steps
        return self.decoder.sample(condition, size=size, seeds=seeds, steps=steps, solver=solver, progress=progress)

    def stages(
        self, tokens: VisualTokens, *, steps: int | None = None, seeds: Sequence[int] | None = None
    ) -> list[Stage]:
        """The images that each sampling step points to; the last are what is drawn."""
        return stages_of(self.decoder.space, lambda solver: self(tokens, steps=steps, seeds=seeds, solver=solver))

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
        if self.observation not in tokens.observed:
            has = f"have {', '.join(tokens.observed)}, not" if tokens.observed else "come without"
            raise ValueError(
                f"these tokens {has} {self.observation}; generate them with observe=dcdd.observers, "
                "or read images with dcdd.read"
            )
        return self.encode(tokens.observed[self.observation], tokens.grid)

    def encode(self, observed: Float[Tensor, "b n o"], grid: Grid) -> Float[Tensor, "b k hc wc"]:
        """Observed features on a token grid to the condition map; gradients flow."""
        pixels_per_latent = self.decoder.space.stride
        height, width = (side * self.token_stride // pixels_per_latent for side in grid)
        weight = self.encoder.fc.weight
        return self.encoder(observed.to(weight.device, weight.dtype), grid, (height, width))

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
        tensors, expected = load_tensors(folder / WEIGHTS), dcdd.learned()
        odd = sorted(
            name for name in tensors.keys() | expected.keys() if _shape(tensors, name) != _shape(expected, name)
        )
        if odd:
            raise ValueError(
                f"{folder / WEIGHTS} does not fit {settings.name} beside it: {odd[0]} ({len(odd)} tensors in all)"
            )
        dcdd.load_state_dict(tensors, strict=False)
        net: Any = dcdd.decoder.net
        net.freeze()
        return dcdd.requires_grad_(False).eval()


def _shape(tensors: dict[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(tensors[name].shape) if name in tensors else None
