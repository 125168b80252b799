"""Janus at any size: one small config becomes the real `JanusForConditionalGeneration`, under its real parameter names.

A Janus is a Llama, a visual tokenizer (VQ), a vision tower for reading images, and two small bridges for drawing them.
At full size these are Janus-Pro-1B and -7B; at mini size the same class trains on a laptop.

JanusSize + tokenizer -janus_config-> JanusConfig -build_janus-> JanusForConditionalGeneration.
"""

from __future__ import annotations

from typing import Any

from pydantic import model_validator
from transformers import (
    GenerationConfig,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusVisionConfig,
    JanusVQVAEConfig,
    LlamaConfig,
    PreTrainedTokenizerBase,
)

from ..vq_weights import VQSize
from .transformer_size import TransformerSize


class JanusSize(TransformerSize, VQSize):
    """Every number that makes one Janus larger or smaller than another; grid * VQ stride = image_size."""

    vocabulary: int
    """Rows of the text embedding table."""
    max_positions: int = 1024
    """Longest sequence the language model is meant for."""
    image_size: int
    """Side of the square image, in pixels."""
    vision_hidden: int = 1024
    """Width of the vision tower."""
    vision_layers: int = 24
    """Blocks of the vision tower."""
    vision_heads: int = 16
    """Attention heads of the vision tower."""

    def vq_config(self, **more: Any) -> JanusVQVAEConfig:
        return super().vq_config(projection_dim=self.hidden, image_token_embed_dim=self.hidden, **more)

    @model_validator(mode="after")
    def _fits(self) -> JanusSize:
        if self.grid * self.stride != self.image_size:
            raise ValueError(
                f"a {self.grid}x{self.grid} grid at stride {self.stride} (from {len(self.vq_multipliers)} "
                f"vq_multipliers) covers {self.grid * self.stride} px, but image_size is {self.image_size}"
            )
        if self.vq_channels % 32:
            raise ValueError(f"vq_channels is {self.vq_channels}; GroupNorm needs a multiple of 32")
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden {self.hidden} does not split into {self.heads} heads of even width")
        if self.vision_hidden % self.vision_heads:
            raise ValueError(f"vision_hidden {self.vision_hidden} does not split into {self.vision_heads} heads")
        return self


JANUS_PRO_1B = JanusSize(
    hidden=2048, layers=24, heads=16, intermediate=5632, vocabulary=102400, max_positions=16384,
    image_size=384, grid=24, codebook=16384,
)  # fmt: skip
JANUS_PRO_7B = JANUS_PRO_1B.vary(hidden=4096, layers=30, heads=32, intermediate=11008)


def janus_config(
    size: JanusSize, *, bos: int = 0, eos: int = 1, pad: int = 2, image_token: int = 100581
) -> JanusConfig:
    """Spell a size out as the `JanusConfig` transformers wants; the ids are those of the tokenizer's special tokens."""
    text = LlamaConfig(
        **size.blocks(),
        vocab_size=size.vocabulary,
        max_position_embeddings=size.max_positions,
        rms_norm_eps=1e-6,
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=pad,
        tie_word_embeddings=False,
    )
    # The patch size of the vision tower is the stride of the VQ, because JanusConfig derives the VQ grid from it.
    vision = JanusVisionConfig(
        hidden_size=size.vision_hidden,
        num_hidden_layers=size.vision_layers,
        num_attention_heads=size.vision_heads,
        image_size=size.image_size,
        patch_size=size.stride,
        num_image_tokens=size.grid**2,
        projection_dim=size.hidden,
    )
    return JanusConfig(
        text_config=text,
        vision_config=vision,
        vq_config=size.vq_config(),
        image_token_id=image_token,
        tie_word_embeddings=False,
    )


def build_janus(size: JanusSize, tokenizer: PreTrainedTokenizerBase) -> JanusForConditionalGeneration:
    """Build a randomly initialised Janus whose special ids and vocabulary agree with `tokenizer`.

    The tokenizer must know `bos_token`, `eos_token`, `pad_token`, `boi_token` (begin of image) and `image_token`;
    `word_tokenizer` makes such a one. Raises ValueError if it is larger than `size.vocabulary`.
    """
    ids = special_ids(tokenizer)
    if len(tokenizer) > size.vocabulary:
        raise ValueError(f"the tokenizer knows {len(tokenizer)} tokens but size.vocabulary is {size.vocabulary}")
    config = janus_config(size, bos=ids["bos"], eos=ids["eos"], pad=ids["pad"], image_token=ids["image"])
    model = JanusForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        bos_token_id=ids["bos"],
        eos_token_id=ids["eos"],
        pad_token_id=ids["pad"],
        guidance_scale=5.0,
        generation_kwargs={"boi_token_id": ids["boi"]},
    )
    return model


def special_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The ids of bos, eos, pad, boi and image tokens; a ValueError names the ones the tokenizer lacks."""
    found = {name: getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "pad", "boi", "image")}
    if missing := [f"{name}_token" for name, index in found.items() if index is None]:
        raise ValueError(f"this tokenizer has no {', '.join(missing)}; Janus needs them to draw")
    return {name: int(index) for name, index in found.items() if index is not None}
