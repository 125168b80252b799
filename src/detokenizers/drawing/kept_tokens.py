"""The tokens that a VLM sampled for an item, kept so that any decoder can draw from them, now or later.

OUT/tokens/ITEM.safetensors: `ids`, `grid`, what was observed while they were sampled, by name, and notes on how.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .. import tars
from ..checkpoint import load_tensors, notes_in, save_tensors
from ..data.marks import TOKENS
from ..protocols import Grid, VisualTokens
from .gallery import require_same
from .shards import pack


class KeptTokens:
    """Reads and writes the tokens in the folder of a gallery."""

    def __init__(self, folder: Path) -> None:
        self.files = tars.Packed(folder / TOKENS)

    def name(self, id: str) -> str:
        return f"{id}.safetensors"

    def path(self, id: str) -> Path:
        return self.files.path(self.name(id))

    def has(self, id: str, names: Collection[str], facts: Mapping[str, Any]) -> bool:
        """Whether an item's tokens are kept, with what was observed under all these names.

        Raises:
            ValueError: they are, but from another prompt, seed or VLM.
        """
        path = self.path(id)
        if not tars.exists(path):
            return False
        require_same(path, notes_in(path), facts)
        return set(names) <= set(load_tensors(path))

    def write(self, id: str, tokens: VisualTokens, row: int, facts: Mapping[str, Any]) -> None:
        """Keep one row of a batch, and how it was sampled."""
        kept = {"ids": tokens.ids[row], "grid": torch.tensor(tokens.grid)}
        kept |= {name: observed[row] for name, observed in tokens.observed.items()}
        save_tensors(self.files.folder / self.name(id), kept, notes=json.dumps(facts))

    def pack(self, number: int, ids: Sequence[str]) -> None:
        """Move the tokens of these items into the shard of this number."""
        pack(self.files, number, [self.name(id) for id in ids])

    def read(self, id: str, names: Collection[str]) -> VisualTokens:
        """An item's tokens as a batch of one, with what was observed under these names."""
        kept = load_tensors(self.path(id))
        rows, columns = kept["grid"].tolist()
        return VisualTokens(kept["ids"][None], Grid(rows, columns), {name: kept[name][None] for name in names})
