"""A `JanusVQVAE` on its own: built at any size, saved and loaded in transformers' layout.

VQSize -build_vq-> JanusVQVAE <-save_vq / load_vq-> config.json + model.safetensors (also out of a whole Janus).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import JanusConfig, JanusVQVAE, JanusVQVAEConfig

from ..checkpoint import load_strictly, save_tensors, write_text
from ..config import Config
from ..texts import json_of, text_in
from .weights.formats import tensors_under

INSIDE_JANUS = "model.vqmodel."


class VQSize(Config):
    """The numbers of one visual tokenizer."""

    grid: int
    """Side of the token raster."""
    codebook: int
    """Codes of the visual tokenizer."""
    code_dim: int = 8
    """Dimension of one code."""
    vq_channels: int = 128
    """Base channels of the visual tokenizer; a multiple of 32 (GroupNorm)."""
    vq_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    """Channel multiplier per resolution; each entry after the first halves the image."""
    vq_blocks: int = 2
    """Residual blocks per resolution."""
    vq_latent: int = 256
    """Channels between the VQ encoder and its codes."""

    @property
    def stride(self) -> int:
        """Pixels per token side."""
        return 2 ** (len(self.vq_multipliers) - 1)

    def vq_config(self, **more: Any) -> JanusVQVAEConfig:
        """The same in transformers' words."""
        return JanusVQVAEConfig(
            embed_dim=self.code_dim,
            num_embeddings=self.codebook,
            latent_channels=self.vq_latent,
            base_channels=self.vq_channels,
            channel_multiplier=list(self.vq_multipliers),
            num_res_blocks=self.vq_blocks,
            num_patches=self.grid,
            **more,
        )


def build_vq(size: VQSize) -> JanusVQVAE:
    """A randomly initialised, trainable tokenizer of that size."""
    return JanusVQVAE(size.vq_config())


def save_vq(vq: JanusVQVAE, folder: Path) -> None:
    """Write config and weights (fp16) as transformers would."""
    save_tensors(folder / "model.safetensors", vq.state_dict(), dtype=torch.float16)
    write_text(folder / "config.json", vq.config.to_json_string())


def load_vq(folder: Path) -> JanusVQVAE:
    """Load the tokenizer from its own folder or from that of the Janus it belongs to, in fp32."""
    path = folder / "config.json"
    data = json_of(text_in(path, "tokenizer"), str(path))
    whole = data.get("model_type") == "janus"
    config = JanusConfig.from_dict(data).vq_config if whole else JanusVQVAEConfig.from_dict(data)
    assert isinstance(config, JanusVQVAEConfig)
    vq = JanusVQVAE(config)
    load_strictly(vq, tensors_under(folder, INSIDE_JANUS if whole else ""), folder)
    return vq
