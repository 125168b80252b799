"""Multiplications and additions of FLUX's transformer, by formula; tests compare it with PyTorch's own count.

Per token and block a stream costs 12 D² weights (query, key, value, output, and an MLP of four times the width; in
single blocks the same, fused); attention costs 4 S² D a block; modulation is paid once an image.

FluxConfig, image tokens, text tokens -forward-> FLOP an image ; -learning-> the same for one step of the attn scope
"""

from __future__ import annotations

from dataclasses import dataclass

from detokenizers.pretrained.flux.transformer import FluxConfig

TIME_CHANNELS = 256
"""Sines and cosines of a time or a guidance value."""


@dataclass(frozen=True)
class Flop:
    """Of one image's forward pass."""

    linear: int
    """On tokens, inside the blocks."""
    attention: int
    modulation: int
    edges: int
    """Input and output layers, text, time, guidance."""
    attention_weights: int
    """Of `linear`, what belongs to weights that the attention scope trains."""
    edges_back: int
    """Gradients at the input and output layers, less what the first block's text stream need not pass on."""

    @property
    def forward(self) -> int:
        return self.linear + self.attention + self.modulation + self.edges

    @property
    def learning(self) -> int:
        """Forward, gradients of activations (twice for attention, a product of two of them), gradients of the weights
        that learn. Recomputed activations are not counted: this is the model's FLOP, not the hardware's."""
        return self.forward + self.linear + 2 * self.attention + self.attention_weights + self.edges_back


def flop(config: FluxConfig, image: int, text: int, condition: int) -> Flop:
    """Count one image of `image` tokens beside `text` null-text tokens, `condition` channels more a token."""
    d, s, blocks = config.heads * config.head_dim, image + text, config.layers + config.single_layers
    latents = 4 * config.latent_channels
    inputs = 2 * latents + 4 * config.stride**2 + condition
    told = 2 if config.guidance is not None else 1
    embedded = told * (TIME_CHANNELS * d + d * d) + config.pooled_dim * d + d * d
    return Flop(
        linear=2 * 12 * d * d * s * blocks,
        attention=4 * s * s * d * blocks,
        modulation=2 * d * d * (12 * config.layers + 3 * config.single_layers + 2),
        edges=2 * (d * (inputs + latents) * image + config.text_dim * d * text + embedded),
        attention_weights=2 * d * d * s * (4 * config.layers + 3 * config.single_layers),
        edges_back=2 * d * ((inputs + condition + latents) * image - 3 * d * text),
    )
