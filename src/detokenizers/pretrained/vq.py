"""The visual tokenizer of Janus and LlamaGen: images to unit feature vectors, to codes, and back to images.

Both VLMs ship the same VQ network, here transformers' `JanusVQVAE`. It was trained with L2-normalised codes, but its
`encode` compares raw vectors; so this class does its own nearest-code search, by cosine, on unit rows in fp32.

image -encoder, quant_conv, normalise-> features -argmax cosine-> ids
ids -codebook-> codes -post_quant_conv, decoder-> image.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import JanusVQVAE

from ..checkpoint import weights_fingerprint
from ..nn.channels_last import channels_last
from ..nn.codebook import nearest
from ..protocols import Grid

log = logging.getLogger(__name__)


class JanusVQ(nn.Module):
    """A frozen `VisualTokenizer` over a `JanusVQVAE`. The given model is put in eval mode and frozen in place."""

    def __init__(self, model: JanusVQVAE) -> None:
        super().__init__()
        side = int(model.config.num_patches)
        self.grid = Grid(side, side)
        self.image_size = side * 2 ** (len(model.config.channel_multiplier) - 1)
        self.model = channels_last(model.eval().requires_grad_(False))
        self._codebook = self._unit_rows()

    def _unit_rows(self) -> Float[Tensor, "v d"]:
        """Stored rows need not have unit norm: the original normalises them at every look-up."""
        weight = self.model.quantize.embedding.weight.detach()
        stored = weight.float().cpu()  # on a GPU the last bit may differ, and with it the codebook's fingerprint
        norms = stored.norm(dim=-1)
        low, high = float(norms.min()), float(norms.max())
        if not torch.isfinite(norms).all() or low == 0:
            raise ValueError(f"the stored codebook has rows of norm {low:g} to {high:g}; these weights are damaged")
        if max(abs(low - 1), abs(high - 1)) > 1e-2:
            log.info("stored codebook rows have norms %.3g to %.3g; using their unit vectors", low, high)
        return F.normalize(stored, dim=-1).to(weight.device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moving or casting the module moves the codebook, which stays fp32."""
        super()._apply(fn, recurse)
        if not self.model.quantize.embedding.weight.is_meta:
            self._codebook = self._unit_rows()
        return self

    @property
    def codebook(self) -> Float[Tensor, "v d"]:
        """Unit rows, fp32."""
        return self._codebook

    def fingerprint(self) -> str:
        return weights_fingerprint(self.state_dict())

    @torch.no_grad()
    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        """Encode images in [-1, 1] to unit-norm fp32 features in raster order (DCDD Eq. 9)."""
        if images.shape[1:] != (3, self.image_size, self.image_size):
            raise ValueError(
                f"this tokenizer reads [b 3 {self.image_size} {self.image_size}] images, not {list(images.shape)}; "
                "resize and crop them first"
            )
        weight = self.model.quant_conv.weight
        pixels = images.to(weight.device, weight.dtype).contiguous(memory_format=torch.channels_last)
        raw = self.model.quant_conv(self.model.encoder(pixels))
        return F.normalize(raw.float().flatten(2).transpose(1, 2), dim=-1).contiguous()

    @torch.no_grad()
    def tokens(self, features: Float[Tensor, "b n d"]) -> Int[Tensor, "b n"]:
        """Return the code with the largest cosine for every feature (DCDD Eq. 10)."""
        return nearest(features, self.codebook)

    @torch.no_grad()
    def decode(self, codes: Float[Tensor, "b n d"]) -> Float[Tensor, "b 3 h w"]:
        """Decode code vectors, which need not be codebook rows, to images in [-1, 1]."""
        if codes.shape[1:] != (self.grid.size, self.codebook.shape[1]):
            raise ValueError(
                f"this tokenizer decodes [b {self.grid.size} {self.codebook.shape[1]}] codes, not {list(codes.shape)}"
            )
        weight = self.model.post_quant_conv.weight
        plane = codes.to(weight.device, weight.dtype).transpose(1, 2).unflatten(2, tuple(self.grid))
        hidden = self.model.post_quant_conv(plane.contiguous(memory_format=torch.channels_last))
        return self.model.decoder(hidden).float().clamp(-1, 1).contiguous()
