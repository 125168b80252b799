"""The size of a Llama-like transformer, whichever model it is part of."""

from __future__ import annotations

from typing import Any

from ...config import Config


class TransformerSize(Config):
    """Width and depth."""

    hidden: int
    """Width of the language model."""
    layers: int
    """Blocks of the language model."""
    heads: int
    """Attention heads of the language model."""
    intermediate: int | None = None
    """Width of the SwiGLU; 8/3 of `hidden`, rounded up to a multiple of 64, when not given."""

    def blocks(self) -> dict[str, Any]:
        """The same in transformers' words."""
        return {
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate or -(-self.hidden * 8 // 3 // 64) * 64,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.heads,
        }
