"""The layout FLUX.1-Fill reads: latents in 2x2 packs, a pixel mask in packs of packs, and text that is not there.

latents [b c h w] -pack-> tokens [b h/2·w/2 4c] ; mask [b 1 H W] -pack_mask-> [b h/2·w/2 4·stride²]
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from ...checkpoint import load_tensors, resolve
from ...config import Config


def pack(latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n 4*c"]:
    """Fold every 2x2 square of latents into one token, channel `4c + 2(row % 2) + column % 2`."""
    height, width = latents.shape[-2:]
    if height % 2 or width % 2:
        raise ValueError(f"FLUX packs latents 2x2, so their sides must be even, got {height}x{width}")
    return rearrange(latents, "b c (h p) (w q) -> b (h w) (c p q)", p=2, q=2)


def unpack(tokens: Float[Tensor, "b n 4*c"], height: int, width: int) -> Float[Tensor, "b c h w"]:
    """The inverse of `pack` for latents of the given size."""
    return rearrange(tokens, "b (h w) (c p q) -> b c (h p) (w q)", h=height // 2, w=width // 2, p=2, q=2)


def pack_mask(mask: Float[Tensor, "b 1 H W"], stride: int) -> Float[Tensor, "b n 4*s*s"]:
    """Fold the pixels under each 2x2 square of latents into one token; 1 = repaint."""
    return rearrange(mask, "b 1 (h p y) (w q x) -> b (h w) (y x p q)", p=2, q=2, y=stride, x=stride)


Encode = Callable[[Float[Tensor, "b 3 H W"]], Float[Tensor, "b c h w"]]


class BlankPicture(Config):
    """A full mask over a blank picture: how Fill is made to repaint everything, which its weights have seen."""

    # PAPER GAP (docs/dcdd.md#fill-inputs): what the 320 extra input channels of Fill are given is not mentioned.

    kind: Literal["blank_picture"] = "blank_picture"

    def __call__(self, images: Float[Tensor, "1 3 H W"], encode: Encode, stride: int) -> Float[Tensor, "1 n e"]:
        return torch.cat([pack(encode(images)), pack_mask(torch.ones_like(images[:, :1]), stride)], dim=-1)


class ZeroFill(Config):
    """All zeros, the mask too: taken literally, "keep the picture", which Fill never saw beside pure noise."""

    kind: Literal["zeros"] = "zeros"

    def __call__(self, images: Float[Tensor, "1 3 H W"], encode: Encode, stride: int) -> Float[Tensor, "1 n e"]:
        return torch.zeros_like(BlankPicture()(images, encode, stride))


FillInputs = Annotated[BlankPicture | ZeroFill, Field(discriminator="kind")]
"""Called once per size with a blank picture; what Fill's mask and masked-image channels hold, token by token."""


class StandIn(Config):
    """What stands in for the prompt."""

    def stored(self) -> Config:
        """Settings that give tensors of the same shapes, for saved weights to fill."""
        return self


class NoText(StandIn):
    """No text tokens at all; the cheapest, and natural for a transformer trained from scratch."""

    kind: Literal["none"] = "none"

    def read(self, text_dim: int, pooled_dim: int) -> tuple[Float[Tensor, "l e"], Float[Tensor, "p"]]:
        return torch.zeros(0, text_dim), torch.zeros(pooled_dim)


class ZeroText(StandIn):
    """A number of all-zero text tokens."""

    kind: Literal["zeros"] = "zeros"
    num_tokens: int = 512

    def read(self, text_dim: int, pooled_dim: int) -> tuple[Float[Tensor, "l e"], Float[Tensor, "p"]]:
        return torch.zeros(self.num_tokens, text_dim), torch.zeros(pooled_dim)


class EmptyPrompt(StandIn):
    """What FLUX's own text encoders say about the empty prompt, the "no text" its weights have seen."""

    # PAPER GAP (docs/dcdd.md#null-text): text is "excluded"; whether as the empty prompt or as no tokens is not said.

    kind: Literal["empty_prompt"] = "empty_prompt"
    source: str = "black-forest-labs/FLUX.1-Fill-dev"
    """A safetensors file with `text` and `pooled`, or a folder or Hub id that holds FLUX's two text encoders."""
    num_tokens: int = 512

    def stored(self) -> ZeroText:
        """The empty prompt is stored with the weights, so loading them need not run FLUX's text encoders."""
        return ZeroText(num_tokens=self.num_tokens)

    def read(self, text_dim: int, pooled_dim: int) -> tuple[Float[Tensor, "l e"], Float[Tensor, "p"]]:
        if Path(self.source).suffix == ".safetensors":
            tensors = load_tensors(self.source)
            text, pooled = tensors["text"], tensors["pooled"]
        else:
            text, pooled = encode_empty_prompt(self.source, self.num_tokens)
        if text.shape != (self.num_tokens, text_dim) or pooled.shape != (pooled_dim,):
            raise ValueError(
                f"the empty prompt of {self.source} is {tuple(text.shape)} and {tuple(pooled.shape)}, but this "
                f"transformer reads {(self.num_tokens, text_dim)} and {(pooled_dim,)}; give the encoders it came with"
            )
        return text, pooled


NullText = Annotated[NoText | ZeroText | EmptyPrompt, Field(discriminator="kind")]


@torch.no_grad()
def encode_empty_prompt(source: str, num_tokens: int = 512) -> tuple[Float[Tensor, "l e"], Float[Tensor, "p"]]:
    """Run T5 and CLIP on "" once, padded and unmasked as FLUX's pipeline does.

    Returns:
        T5 states [num_tokens e] and CLIP's pooled vector [p], fp32.
    """
    from transformers import AutoTokenizer, CLIPTextModel, T5EncoderModel

    from ..weights.models import PATTERNS, load_model

    parts = ("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2")
    folder = resolve(source, [f"{part}/{pattern}" for part in parts for pattern in PATTERNS])

    def ids(tokenizer: str, length: int) -> Tensor:
        read = AutoTokenizer.from_pretrained(folder / tokenizer, local_files_only=True)
        return read("", padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids

    clip = load_model(CLIPTextModel, folder / "text_encoder", dtype="auto")
    pooled = clip(ids("tokenizer", clip.config.max_position_embeddings)).pooler_output[0]
    t5 = load_model(T5EncoderModel, folder / "text_encoder_2", dtype="auto")
    return t5(ids("tokenizer_2", num_tokens)).last_hidden_state[0].float(), pooled.float()
