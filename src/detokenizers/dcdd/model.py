"""DCDD (Distribution-Conditioned Diffusion Decoding): a diffusion decoder that is told not which token the VLM drew,
but what it believed, and so draws fine images from the tokens of a frozen VLM.

tokens with observed beliefs -CondEncoder-> condition -FlowDecoder(space, FLUX)-> images
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from ..checkpoint import load_tensors, save_tensors, write_text
from ..config import Config
from ..decoder import FlowDecoder
from ..flow.solvers import Progress, Solver, euler
from ..pretrained.flux.inputs import EmptyPrompt, ZeroText
from ..pretrained.flux.scope import Attention, Scope, apply_scope
from ..pretrained.flux.transformer import FluxDecoder, FluxNet, PretrainedFlux
from ..pretrained.spaces import VAE, PretrainedVAE, Space, save_vae
from ..protocols import Grid, VisualTokenizer, VisualTokens
from .calibration import Calibration, Observer, read_features, require_unit_rows
from .condition import CondConfig, CondEncoder
from .lcdm import Expectation, Reading

CONFIG, WEIGHTS, CODEBOOK, SPACE = "dcdd.yaml", "decoder.safetensors", "codebook.safetensors", "space"


class DCDDConfig(Config):
    """Every choice that decides what a DCDD decoder computes, in the order of the data."""

    reading: Reading = Expectation()
    calibration: Calibration = Calibration()
    """How sure the encoder's beliefs are made to be, found by `detok calibrate`."""
    condition: CondConfig = CondConfig()
    net: FluxNet = PretrainedFlux()
    scope: Scope = Attention()
    """What of the net learns."""
    space: Space = PretrainedVAE(subfolder="vae")
    token_stride: int = 16
    """Pixels per VLM token."""
    steps: int = Field(default=30, ge=1)
    """Sampling steps unless a caller asks for others; the paper's 30."""

    def build(self, codebook: Float[Tensor, "v d"]) -> DCDD:
        """A decoder ready to train: pretrained weights where the config names them, random ones elsewhere.

        Raises:
            ValueError: when codebook rows are not unit vectors, or net and space do not fit each other.
        """
        require_unit_rows(codebook)
        space, d = self.space.build(), codebook.shape[1]
        encoder = CondEncoder(self.condition, self.reading.num_features(d), d)
        net = self.net.build(encoder.channels_per_token, space.encode)
        if (net.latent_channels, net.stride) != (space.channels, space.stride):
            raise ValueError(
                f"the net draws {net.latent_channels} channels at stride {net.stride}, but the space has "
                f"{space.channels} at stride {space.stride}; set net.latent_channels and net.stride"
            )
        apply_scope(self.scope, net.transformer)
        return DCDD(self, codebook, encoder, FlowDecoder(space, net))


class DCDD(nn.Module):
    """The decoder. Calling it with tokens that were observed by `self.observe` gives images [b 3 h w] in [-1, 1]."""

    codebook: Float[Tensor, "v d"]

    def __init__(self, config: DCDDConfig, codebook: Tensor, encoder: CondEncoder, decoder: FlowDecoder) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("codebook", codebook.detach().float().clone(), persistent=False)
        self.encoder = encoder
        self.decoder = decoder

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
        """Draw what the VLM meant; `seeds` has one number per image, by default 0, 1, 2, ...

        `steps` defaults to the config's.
        """
        condition = self.condition(tokens)  # Eqs. 19-20
        size = (tokens.grid.height * self.config.token_stride, tokens.grid.width * self.config.token_stride)
        seeds = range(len(tokens)) if seeds is None else seeds
        steps = self.config.steps if steps is None else steps
        return self.decoder.sample(condition, size=size, seeds=seeds, steps=steps, solver=solver, progress=progress)

    @property
    def observe(self) -> Observer:
        """For `vlm.generate(..., observe=dcdd.observe)`: LCDM and calibration inside the token loop (Eqs. 5-8)."""
        return Observer(self.config.reading, self.codebook, self.config.calibration)

    def condition(self, tokens: VisualTokens) -> Float[Tensor, "b k hc wc"]:
        """The condition map of observed tokens (Eqs. 19-20)."""
        if tokens.observed is None:
            raise ValueError(
                "these tokens carry no beliefs; generate them with observe=dcdd.observe, or read images with dcdd.read"
            )
        return self.encode(tokens.observed, tokens.grid)

    def encode(self, observed: Float[Tensor, "b n o"], grid: Grid) -> Float[Tensor, "b k hc wc"]:
        """Observed features on a token grid to the condition map; gradients flow."""
        pixels_per_latent = self.decoder.space.stride
        height, width = (side * self.config.token_stride // pixels_per_latent for side in grid)
        weight = self.encoder.fc.weight
        return self.encoder(observed.to(weight.device, weight.dtype), grid, (height, width))

    def proxy(self, features: Float[Tensor, "b n d"], sampled: Tensor | None = None) -> Float[Tensor, "b n o"]:
        """The reading of the encoder's calibrated beliefs, which training uses in the VLM's place (Eqs. 9-15)."""
        return read_features(features, self.config.calibration, self.config.reading, self.codebook, sampled)

    @torch.no_grad()
    def read(self, images: Float[Tensor, "b 3 h w"], tokenizer: VisualTokenizer) -> VisualTokens:
        """Images to tokens with proxy beliefs, as if a VLM had drawn them: the first half of a reconstruction."""
        features = tokenizer.features(images)
        return VisualTokens(tokenizer.tokens(features), tokenizer.grid, self.proxy(features.to(self.codebook)))

    def is_new(self, name: str) -> bool:
        """Whether a parameter of this name belongs to the layers that DCDD adds to the transformer."""
        return name.startswith("encoder.") or ".x_embedder.condition." in name

    def learned(self) -> dict[str, Tensor]:
        """The tensors that a run folder must hold: all but the space and, over released weights, what stayed frozen."""
        fixed = {name for name, p in self.named_parameters() if not p.requires_grad and not name.startswith("encoder.")}
        released = fixed if isinstance(self.config.net, PretrainedFlux) else set()
        return {
            name: tensor
            for name, tensor in self.state_dict().items()
            if name not in released and not name.startswith("decoder.space.")
        }

    def save(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write config, codebook and learned weights (as `dtype`, if given); a local space is copied along."""
        folder, config = Path(folder), self.config
        space = self.decoder.space
        if isinstance(config.space, PretrainedVAE) and isinstance(space, VAE) and Path(config.space.name).exists():
            save_vae(space.autoencoder, folder / SPACE)
            config = config.vary({"space.name": SPACE, "space.subfolder": None})
        save_tensors(folder / CODEBOOK, {"codebook": self.codebook})
        save_tensors(folder / WEIGHTS, self.learned(), dtype=dtype)
        write_text(folder / CONFIG, config.to_yaml())

    @classmethod
    def load(cls, folder: str | Path) -> DCDD:
        """Read a saved decoder back, frozen and ready to draw.

        Raises:
            ValueError: when a file is missing, damaged, or belongs to another config.
        """
        folder = Path(folder)
        config = DCDDConfig.from_yaml(folder / CONFIG)
        if isinstance(config.space, PretrainedVAE) and (folder / config.space.name).exists():
            config = config.vary({"space.name": str(folder / config.space.name)})
        codebook = load_tensors(folder / CODEBOOK)["codebook"]
        dcdd = _without_text_encoders(config).build(codebook)
        dcdd.config = config
        tensors, expected = load_tensors(folder / WEIGHTS), dcdd.learned()
        odd = sorted(
            name for name in tensors.keys() | expected.keys() if _shape(tensors, name) != _shape(expected, name)
        )
        if odd:
            raise ValueError(
                f"{folder / WEIGHTS} does not fit {CONFIG} beside it: {odd[0]} ({len(odd)} tensors in all)"
            )
        dcdd.load_state_dict(tensors, strict=False)
        net = dcdd.decoder.net
        assert isinstance(net, FluxDecoder)
        net.to(net.transformer.proj_out.weight.dtype)  # nothing learns any more, so nothing need stay fp32
        return dcdd.requires_grad_(False).eval()


def _without_text_encoders(config: DCDDConfig) -> DCDDConfig:
    """The empty prompt is stored with the weights, so loading need not run FLUX's text encoders."""
    text = config.net.text
    return config.vary({"net.text": ZeroText(num_tokens=text.num_tokens)}) if isinstance(text, EmptyPrompt) else config


def _shape(tensors: dict[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(tensors[name].shape) if name in tensors else None
