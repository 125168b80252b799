"""FLUX.1-Fill as a decoder: the inpainting transformer asked to repaint everything, with our condition added to its
input tokens. Adding a projected condition is the same as widening the input layer, so Flux itself is not touched.

noisy [b c h w] + fill constants + condition [b k hc wc] -pack-> tokens -transformer-> velocity [b c h w]
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from diffusers import FluxTransformer2DModel
from einops import rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from ...checkpoint import resolve
from ...config import Config
from ..weights.models import load_model
from .inputs import BlankPicture, EmptyPrompt, Encode, FillInputs, NoText, NullText, pack, unpack
from .scope import Scope, apply_scope


class FillConstants(Config):
    """What a Fill transformer is given besides noise and condition, the same in training and sampling."""

    released: ClassVar[bool] = False
    """Whether weights that stay frozen can be had again by the settings alone, so that nobody need save them."""

    guidance: float | None = 30.0
    """The distilled guidance value; unset for a net without that input."""
    text: NullText = NoText()
    fill: FillInputs = BlankPicture()
    # PAPER GAP (docs/dcdd.md#new-columns): how the new input columns start is not said.
    zero_init: bool = True
    """New input columns start at zero, so that step 0 is exactly the transformer as it was; else as a linear layer."""

    def stored(self) -> Self:
        """Settings of the same net, for saved weights to fill."""
        return self.vary(text=self.text.stored())


class FluxConfig(FillConstants):
    """A randomly initialised Fill transformer; the defaults are the full size of FLUX.1-Fill-dev."""

    kind: Literal["flux"] = "flux"
    layers: int = 19
    single_layers: int = 38
    heads: int = 24
    head_dim: int = 128
    axes: tuple[int, int, int] = (16, 56, 56)
    """Rotary channels for (unused, row, column); they add up to `head_dim`."""
    text_dim: int = 4096
    pooled_dim: int = 768
    latent_channels: int = 16
    stride: int = 8
    """Pixels per latent; the mask has one channel per pixel."""

    def build(self, condition_dim: int, encode: Encode) -> FluxDecoder:
        """A new transformer; `condition_dim` and `encode` as in `FluxDecoder`."""
        if sum(self.axes) != self.head_dim:
            raise ValueError(f"rotary axes {self.axes} add up to {sum(self.axes)}, not to head_dim={self.head_dim}")
        latents = 4 * self.latent_channels
        settings: dict[str, Any] = {
            "in_channels": 2 * latents + 4 * self.stride**2,
            "out_channels": latents,
            "num_layers": self.layers,
            "num_single_layers": self.single_layers,
            "attention_head_dim": self.head_dim,
            "num_attention_heads": self.heads,
            "joint_attention_dim": self.text_dim,
            "pooled_projection_dim": self.pooled_dim,
            "guidance_embeds": self.guidance is not None,
            "axes_dims_rope": self.axes,
        }
        return FluxDecoder(FluxTransformer2DModel(**settings), condition_dim, encode, self)


class PretrainedFlux(FillConstants):
    """Released Fill weights, by Hub id or folder."""

    released: ClassVar[bool] = True

    kind: Literal["pretrained_flux"] = "pretrained_flux"
    name: str = "black-forest-labs/FLUX.1-Fill-dev"
    """The Hub repository is gated and its licence is non-commercial; nothing here needs it but this."""
    subfolder: str = "transformer"
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Of the frozen weights; what learns is kept in float32."""
    text: NullText = EmptyPrompt()

    def build(self, condition_dim: int, encode: Encode) -> FluxDecoder:
        files = [f"{self.subfolder}/*.json", f"{self.subfolder}/diffusion_pytorch_model*.safetensors"]
        folder = resolve(self.name, files) / self.subfolder
        transformer = load_model(FluxTransformer2DModel, folder, dtype=getattr(torch, self.dtype), whole=True)
        return FluxDecoder(transformer, condition_dim, encode, self)


FluxNet = Annotated[FluxConfig | PretrainedFlux, Field(discriminator="kind")]


class FusedXEmbedder(nn.Module):
    """An input layer with more columns: `base(x) + condition(y)` on `[x, y]`, the additive fusion of DCDD Eqs. 21-23.

    With `zero_init` training starts exactly at the pretrained transformer.
    """

    def __init__(self, base: nn.Linear, condition_dim: int, *, zero_init: bool = True) -> None:
        super().__init__()
        self.base = base
        self.condition = nn.Linear(condition_dim, base.out_features, bias=False)
        if zero_init:
            nn.init.zeros_(self.condition.weight)

    def forward(self, tokens: Float[Tensor, "b n e"]) -> Float[Tensor, "b n f"]:
        x, y = tokens.split([self.base.in_features, self.condition.in_features], dim=-1)
        return self.base(x) + self.condition(y)


class FluxDecoder(nn.Module):
    """A net over latents whose condition is still to be bound: `net(noisy, t, condition) -> velocity`.

    Args:
        transformer: an unforked Fill transformer; its input layer is widened in place.
        condition_dim: condition channels per token, k for a map on the token grid and 4k for one on the latent grid.
        encode: images to latents, asked once per size for the blank picture that Fill repaints.
        constants: the guidance value, what stands in for the prompt, what Fill's own channels hold, how new columns
            start.
    """

    text: Tensor
    pooled: Tensor
    new_parameters: ClassVar[frozenset[str]] = frozenset({"transformer.x_embedder.condition.weight"})
    """Those that the transformer did not have before."""

    def __init__(
        self,
        transformer: FluxTransformer2DModel,
        condition_dim: int,
        encode: Encode,
        constants: FillConstants = FillConstants(),  # noqa: B008
    ) -> None:
        super().__init__()
        shape: dict[str, Any] = dict(transformer.config)
        if shape["guidance_embeds"] != (constants.guidance is not None):
            wants = "a guidance value" if shape["guidance_embeds"] else "no guidance"
            raise ValueError(f"this transformer takes {wants}, got guidance={constants.guidance}")
        self.channels: int = transformer.out_channels // 4
        self.stride = _stride(shape["in_channels"], transformer.out_channels)
        self.condition_dim, self.encode = condition_dim, encode
        self.guidance, self.fill = constants.guidance, constants.fill
        fused = FusedXEmbedder(transformer.x_embedder, condition_dim, zero_init=constants.zero_init)
        transformer.set_submodule("x_embedder", fused)
        self.transformer = transformer
        words, pooled = constants.text.read(shape["joint_attention_dim"], shape["pooled_projection_dim"])
        self.register_buffer("text", words)
        self.register_buffer("pooled", pooled)
        self._constants: dict[tuple[int, int, torch.device], tuple[Tensor, Tensor, Tensor]] = {}

    def learn(self, scope: Scope) -> None:
        """Choose what learns."""
        apply_scope(scope, self.transformer)

    def freeze(self) -> None:
        """Nothing learns any more, so nothing need stay in fp32."""
        self.requires_grad_(False).to(self.transformer.proj_out.weight.dtype)

    def forward(
        self, noisy: Float[Tensor, "b c h w"], t: Float[Tensor, "b"], condition: Float[Tensor, "b k hc wc"]
    ) -> Float[Tensor, "b c h w"]:
        b, _, h, w = noisy.shape
        fill, img_ids, txt_ids = self.constants(h, w, noisy.device)
        dtype = self.transformer.proj_out.weight.dtype
        tokens = torch.cat([pack(noisy), fill.expand(b, -1, -1), self.pack_condition(condition, h, w)], dim=-1)
        # Half-precision frozen weights and fp32 learning ones meet under autocast, in training and sampling alike.
        mixed = nullcontext() if dtype == torch.float32 else torch.autocast(noisy.device.type, dtype)
        with mixed:
            velocity = self.transformer(
                hidden_states=tokens.to(dtype),
                timestep=t,
                guidance=None if self.guidance is None else torch.full_like(t, self.guidance),
                encoder_hidden_states=self.text.to(dtype).expand(b, -1, -1),
                pooled_projections=self.pooled.to(dtype).expand(b, -1),
                img_ids=img_ids,
                txt_ids=txt_ids,
                return_dict=False,
            )[0]
        return unpack(velocity.to(noisy.dtype), h, w)

    def pack_condition(self, condition: Float[Tensor, "b k hc wc"], h: int, w: int) -> Float[Tensor, "b n o"]:
        """A map on the latent grid is packed like latents; one on the token grid already is one vector a token."""
        size = tuple(condition.shape[-2:])
        if size == (h, w):
            packed = pack(condition)
        elif size == (h // 2, w // 2):
            packed = rearrange(condition, "b k h w -> b (h w) k")
        else:
            raise ValueError(
                f"latents of {h}x{w} take a condition of {h}x{w} or {h // 2}x{w // 2}, got {size[0]}x{size[1]}"
            )
        if packed.shape[-1] != self.condition_dim:
            raise ValueError(
                f"the condition has {packed.shape[-1]} channels a token, this net reads {self.condition_dim}"
            )
        return packed

    @torch.no_grad()
    def constants(self, h: int, w: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Per size: what Fill's own channels hold [1 n .], image ids [n 3], text ids [l 3]."""
        key = (h, w, device)
        if key not in self._constants:
            blank = torch.zeros(1, 3, h * self.stride, w * self.stride, device=device)
            # Training may run under autocast and sampling does not; the blank picture must be the same in both.
            with torch.autocast(device.type, enabled=False):
                fill = self.fill(blank, self.encode, self.stride)
            rows, columns = torch.meshgrid(torch.arange(h // 2), torch.arange(w // 2), indexing="ij")
            ids = torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3).float().to(device)
            text_ids = torch.zeros(len(self.text), 3, device=device)
            self._constants[key] = (fill, ids, text_ids)
        return self._constants[key]


def _stride(in_channels: int, latents: int) -> int:
    """The pixel stride that a Fill transformer's input width implies: in = 2 · latents + 4 · stride²."""
    stride = int(((in_channels - 2 * latents) / 4) ** 0.5) if in_channels > 2 * latents else 0
    if stride < 1 or 2 * latents + 4 * stride**2 != in_channels:
        raise ValueError(
            f"a transformer with {in_channels} input and {latents} output channels is not a Fill transformer "
            f"(input = 2 x output + 4 x stride²); use FLUX.1-Fill weights"
        )
    return stride
