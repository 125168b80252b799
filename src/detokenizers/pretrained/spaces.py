"""Where a decoder draws. `Pixels` is the image itself; `VAE` is a diffusers `AutoencoderKL`, the one of FLUX or a small
one built here, with its latents shifted and scaled to about unit variance so that flow noise and data are of one size.

images [b 3 h w] in [-1, 1] -encode-> latents [b c h/stride w/stride] -decode-> images
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from ..checkpoint import resolve, save_tensors, weights_fingerprint, write_text
from ..config import Config
from ..nn.channels_last import channels_last
from ..protocols import ImageSpace
from .weights.models import load_model

WEIGHTS = "diffusion_pytorch_model.safetensors"
COPY = "space"
"""The folder of an autoencoder within the run folder of a decoder that draws in its latents."""


class Pixels(nn.Module):
    """The image as its own latent: nothing to encode, nothing to lose."""

    channels = 3
    stride = 1
    shift, scale = 0.0, 1.0

    def encode(self, images: Float[Tensor, "b 3 h w"], noise: Tensor | None = None) -> Float[Tensor, "b 3 h w"]:
        return images

    def decode(self, latents: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        return latents.clamp(-1, 1)

    def posterior(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, Tensor]:
        return images, torch.zeros_like(images)

    def fingerprint(self) -> str:
        return "pixels"


class VAEConfig(Config):
    """Settings of a small `AutoencoderKL`; every level but the last halves the image."""

    channels: int = 16
    """Latent channels c."""
    block_channels: tuple[int, ...] = (32, 64, 128)
    """Convolution width of each level; three levels make stride 4, four make stride 8."""
    layers_per_block: int = 1
    """Residual blocks per level in the encoder; the decoder has one more."""
    norm_groups: int = 32
    """Groups of every GroupNorm; must divide all block channels."""
    mid_attention: bool = False
    """Self-attention at the lowest resolution, as in the full-size VAEs."""

    @property
    def stride(self) -> int:
        return 2 ** (len(self.block_channels) - 1)


def build_vae(config: VAEConfig) -> AutoencoderKL:
    """A randomly initialised, trainable autoencoder; its latent scale is 1 and shift 0 until `set_statistics`.

    Raises:
        ValueError: when the norm groups do not divide a block's channels.
    """
    odd = [width for width in config.block_channels if width % config.norm_groups]
    if odd:
        raise ValueError(
            f"norm_groups={config.norm_groups} does not divide block channels {odd}; choose a common divisor"
        )
    levels = len(config.block_channels)
    settings: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": config.block_channels,
        "layers_per_block": config.layers_per_block,
        "latent_channels": config.channels,
        "norm_num_groups": config.norm_groups,
        "mid_block_add_attention": config.mid_attention,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "scaling_factor": 1.0,
        "shift_factor": 0.0,
    }
    return AutoencoderKL(**settings)


def set_statistics(autoencoder: AutoencoderKL, mean: float, std: float) -> None:
    """Write raw latent statistics, measured after training, into the autoencoder's own config (saved with it)."""
    if not std > 0:
        raise ValueError(f"the latent standard deviation must be positive, got {std}")
    autoencoder.register_to_config(shift_factor=float(mean), scaling_factor=1.0 / float(std))


class VAE(nn.Module):
    """A frozen autoencoder as an `ImageSpace`: `z = (encoder(x) - shift) * scale` (DCDD Eq. 17).

    Shift and scale are read from the autoencoder's config at every call, so `set_statistics` takes effect at once.
    """

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        super().__init__()
        self.autoencoder = channels_last(autoencoder.requires_grad_(False).eval())
        self.channels: int = autoencoder.config["latent_channels"]
        self.stride: int = 2 ** (len(autoencoder.config["block_out_channels"]) - 1)

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, subfolder: str | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """Load from a folder, `mini/vae`, or the Hub; `subfolder="vae"` for FLUX. Every weight must be there."""
        within = Path(subfolder or "")
        folder = resolve(name, [str(within / "config.json"), str(within / WEIGHTS)]) / within
        return cls(load_model(AutoencoderKL, folder, dtype=dtype, whole=True))

    @property
    def scale(self) -> float:
        return self.autoencoder.config["scaling_factor"]

    @property
    def shift(self) -> float:
        return self.autoencoder.config["shift_factor"] or 0.0

    def train(self, mode: bool = True) -> Self:
        return super().train(False)

    def encode(
        self, images: Float[Tensor, "b 3 h w"], noise: Float[Tensor, "b c hl wl"] | None = None
    ) -> Float[Tensor, "b c hl wl"]:
        """Latents in fp32: the posterior's mode or, when unit `noise` is given, a sample drawn with it.

        Raises:
            ValueError: when the image sides are not multiples of the stride.
        """
        posterior = self._encode(images)
        raw = posterior.mean if noise is None else posterior.mean + posterior.std * noise
        return (raw.float() - self.shift) * self.scale

    def posterior(
        self, images: Float[Tensor, "b 3 h w"], *, raw: bool = False
    ) -> tuple[Float[Tensor, "b c hl wl"], Float[Tensor, "b c hl wl"]]:
        """Mean and standard deviation of an image's latents, both in fp32 and scaled as `encode` scales them.

        Args:
            raw: as the encoder has them, without shift and scale: KL divergences from a unit normal want these.
        """
        posterior = self._encode(images)
        mean, std = posterior.mean.float(), posterior.std.float()
        return (mean, std) if raw else ((mean - self.shift) * self.scale, std * self.scale)

    def fingerprint(self) -> str:
        """Of the weights and of the two numbers that are applied to the latents."""
        return weights_fingerprint({**self.state_dict(), "shift and scale": torch.tensor([self.shift, self.scale])})

    def decode(self, latents: Float[Tensor, "b c hl wl"]) -> Float[Tensor, "b 3 h w"]:
        raw = self._suited(latents / self.scale + self.shift)
        output = self.autoencoder.decode(raw)
        assert isinstance(output, DecoderOutput)
        return output.sample.float().clamp(-1, 1)

    def _encode(self, images: Tensor) -> DiagonalGaussianDistribution:
        height, width = images.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(
                f"image sides must be multiples of {self.stride}, got {height}x{width}; crop or resize first"
            )
        output = self.autoencoder.encode(self._suited(images))
        assert isinstance(output, AutoencoderKLOutput)
        return output.latent_dist

    def _suited(self, images: Tensor) -> Any:
        return images.to(self.autoencoder.dtype).contiguous(memory_format=torch.channels_last)


def save_vae(autoencoder: AutoencoderKL, folder: str | Path) -> None:
    """Save in diffusers' layout (`config.json`, safetensors), so that `from_pretrained` of either library reads it."""
    config = json.loads(autoencoder.to_json_string())
    config.pop("_name_or_path", None)  # where this one was loaded from is nobody else's path
    save_tensors(Path(folder) / WEIGHTS, autoencoder.state_dict())
    write_text(Path(folder) / "config.json", json.dumps(config, indent=2) + "\n")


class PixelSpace(Config):
    """Draw pixels directly."""

    kind: Literal["pixels"] = "pixels"

    def build(self) -> Pixels:
        return Pixels()

    def kept(self, space: ImageSpace, folder: Path) -> PixelSpace:
        return self

    def within(self, folder: Path) -> PixelSpace:
        return self


class PretrainedVAE(Config):
    """An autoencoder in a folder, embedded in the package (`mini/vae`), or on the Hub."""

    kind: Literal["vae"] = "vae"
    name: str = "black-forest-labs/FLUX.1-Fill-dev"
    subfolder: str | None = None
    """`vae` for FLUX's repositories."""

    def build(self) -> VAE:
        return VAE.from_pretrained(self.name, subfolder=self.subfolder)

    def kept(self, space: ImageSpace, folder: Path) -> PretrainedVAE:
        """The settings that find the space of a decoder saved to `folder`: a local one is copied into it."""
        if not Path(self.name).exists() or not isinstance(space, VAE):
            return self
        save_vae(space.autoencoder, folder / COPY)
        return self.vary(name=COPY, subfolder=None)

    def within(self, folder: Path) -> PretrainedVAE:
        """The settings that find the space of a decoder saved in `folder`: the copy there, if there is one."""
        return self.vary(name=str(folder / self.name)) if (folder / self.name).exists() else self


Space = Annotated[PixelSpace | PretrainedVAE, Field(discriminator="kind")]
