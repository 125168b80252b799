"""The masked transformer: what the tokens, the words and the patches drawn so far give for the patches still to draw.

The encoder reads tokens, words and the visible patches only. The decoder has one slot a patch: what the encoder made of
its token, plus what it made of the patch itself where that is visible, or else a mask token. So a patch need not search
for its token, and learning is several times faster than with tokens as a sequence of their own (docs/madit.md#fused).

tokens [b l o], words [b s e], patches [b n d] at visible [b k] -encoder-> -slots-> -decoder-> context [b q w]
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from ..config import Config
from ..nn.prenorm import PreNormBlock, all_or, rows_at
from ..nn.sincos import sincos_grid, sincos_line
from .patches import Layout
from .vocabulary import Words


class TrunkConfig(Config):
    """Size of the masked transformer; the defaults are the paper's at 512 px, 1.1 billion weights."""

    width: int = Field(default=1536, ge=8)
    encoder: int = Field(default=20, ge=1)
    """Blocks over tokens, words and visible patches."""
    decoder: int = Field(default=20, ge=1)
    """Blocks over all patches, and words if they are kept."""
    heads: int = Field(default=24, ge=1)
    mlp: int = Field(default=4, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    text: Literal["none", "encoder", "encoder_decoder"] = "encoder_decoder"
    """Where words are read (Table 2b)."""


class MaskedTransformer(nn.Module):
    """The trunk.

    Args:
        config: its size.
        layout: where patches and tokens lie.
        token_features: numbers that describe a token; its code first.
        patch_dim: numbers in a patch of latents.
        word_dim: width of a word vector; not needed without text.
    """

    token_positions: Tensor
    patch_positions: Tensor
    cell: Tensor

    def __init__(
        self, config: TrunkConfig, layout: Layout, token_features: int, patch_dim: int, word_dim: int = 0
    ) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.reads_text = config.text != "none"
        self.keeps_text = config.text == "encoder_decoder"
        self.token_in, self.patch_in = nn.Linear(token_features, width), nn.Linear(patch_dim, width)
        # A part that never computes would be an unused parameter to data-parallel training.
        self.word_in = nn.Linear(word_dim, width) if self.reads_text else None
        self.kinds = nn.Parameter(0.02 * torch.randn(3 if self.reads_text else 2, width))
        self.dummy = nn.Parameter(0.02 * torch.randn(width))
        self.mask_token = nn.Parameter(0.02 * torch.randn(width))

        def blocks(count: int) -> nn.ModuleList:
            made = [PreNormBlock(width, config.heads, config.mlp, config.dropout) for _ in range(count)]
            return nn.ModuleList(made)

        self.encoder, self.encoder_norm = blocks(config.encoder), nn.LayerNorm(width)
        self.to_decoder = nn.Linear(width, width)
        self.decoder, self.decoder_norm = blocks(config.decoder), nn.LayerNorm(width)
        # One plane for tokens, patches and slots: with positions of their own, "patch l goes with token l" has to be
        # learnt, and the codebook collapses meanwhile.
        stride = float(layout.stride)
        self.register_buffer("token_positions", sincos_grid(layout.tokens, width, stride), persistent=False)
        self.register_buffer("patch_positions", sincos_grid(layout.patches, width), persistent=False)
        self.register_buffer("cell", layout.cell, persistent=False)

    def forward(
        self,
        tokens: Float[Tensor, "b l o"],
        patches: Float[Tensor, "b n d"],
        visible: Int[Tensor, "b k"],
        words: Words | None = None,
        dropped: Bool[Tensor, "b"] | None = None,
        wanted: Int[Tensor, "b q"] | None = None,
    ) -> Float[Tensor, "b q w"]:
        """The context c of patches (paper Eq. 1's decoder).

        Args:
            tokens: what is known of each token.
            patches: latents; rows that are not visible are never read.
            visible: which patches are known.
            words: the caption; without it, as with one that is all padding.
            dropped: items whose tokens and words are replaced by the dummy (the unconditional side of guidance).
            wanted: the patches whose context is wanted; all when None.
        """
        batch, length = tokens.shape[:2]
        x = self.token_in(tokens)
        if dropped is not None:
            x = torch.where(dropped[:, None, None], self.dummy.to(x.dtype), x)
        parts = [x + self.token_positions.to(x) + self.kinds[0]]
        shown = rows_at(self.patch_in(patches), visible) if visible.shape[1] else x[:, :0]
        shown = shown + self.patch_positions.to(x)[visible] + self.kinds[1]
        keep = [torch.ones(batch, length + shown.shape[1], dtype=torch.bool, device=x.device)]
        parts.append(shown)
        caption = self._caption(words, dropped, x)
        if caption is not None:
            parts.append(caption.vectors)
            keep.append(caption.keep)
        x, keys = torch.cat(parts, 1), torch.cat(keep, 1)
        open_ = all_or(keys)
        for block in self.encoder:
            x = block(x, open_)
        x = self.to_decoder(self.encoder_norm(x))
        of_tokens, of_shown, of_words = x.split([length, shown.shape[1], x.shape[1] - length - shown.shape[1]], 1)

        slots = self.mask_token.to(x.dtype).expand(batch, len(self.cell), -1)
        slots = slots.scatter(1, visible[..., None].expand(-1, -1, x.shape[-1]), of_shown)
        slots = slots + of_tokens[:, self.cell] + self.patch_positions.to(x)
        open_ = None
        if caption is not None and self.keeps_text:
            slots = torch.cat([slots, of_words], 1)
            open_ = all_or(torch.cat([keys.new_ones(batch, len(self.cell)), caption.keep], 1))
        *before, last = self.decoder
        for block in before:
            slots = block(slots, open_)
        if wanted is None:
            wanted = torch.arange(len(self.cell), device=x.device).expand(batch, -1)
        return self.decoder_norm(last(slots, open_, wanted))

    def _caption(self, words: Words | None, dropped: Tensor | None, like: Tensor) -> Words | None:
        if words is None or self.word_in is None or not words.vectors.shape[1]:
            return None
        x = self.word_in(words.vectors.to(like))
        positions = sincos_line(torch.arange(x.shape[1]), x.shape[-1]).to(x)
        # PAPER GAP (docs/madit.md#dummy): masking dropped words keeps their number from leaking into the dummy side.
        keep = words.keep if dropped is None else words.keep & ~dropped[:, None]
        return Words(x + positions + self.kinds[2], keep)
