"""The folder a drawing verb leaves: one PNG per decoder and item, each carrying how it was made, and what sums them up.

OUT/DECODER/ITEM.png, OUT/tokens/ITEM.safetensors, OUT/manifest.jsonl, OUT/sheet.png.
A picture is written whole or not at all, so what is there is done; one that was made otherwise is an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..checkpoint import write_text
from ..data.images import notes_of, save_png, to_tensor, upright
from ..evaluation.results import Result
from ..evaluation.sheets import contact_sheet
from ..texts import json_of

MANIFEST, SHEET, TOKENS, ORIGINAL = "manifest.jsonl", "sheet.png", "tokens", "original"
ROWS = 24
"""Items on a contact sheet."""
VERSIONS = {name: version(name) for name in ("detokenizers", "torch", "transformers", "diffusers")}
Notes = Mapping[str, Any]


class Gallery:
    """Reads and writes one such folder."""

    def __init__(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"--out {folder} is a file; give a folder")
        self.folder = folder

    def path(self, label: str, id: str) -> Path:
        return self.folder / label / f"{id}.png"

    def lacks(self, label: str, id: str, notes: Notes) -> bool:
        """Whether a picture is still to be drawn.

        Raises:
            ValueError: it is there, but was made otherwise.
        """
        path = self.path(label, id)
        if not path.exists():
            return True
        require_same(path, notes_of(path), notes)
        return False

    def keep(self, label: str, id: str, image: Float[Tensor, "3 h w"], notes: Notes) -> None:
        """Write a picture with its notes and the versions that drew it."""
        save_png(self.path(label, id), image, {**notes, "versions": VERSIONS})

    def show(
        self,
        ids: Sequence[str],
        captions: Sequence[str],
        labels: Iterable[str],
        *,
        note: str,
        confidence: Sequence[Float[Tensor, "gh gw"]] | None = None,
    ) -> Path:
        """Draw the contact sheet of the first items."""
        few = ids[:ROWS]
        heat = None if confidence is None else 1 - torch.stack(list(confidence[:ROWS]))
        columns = {label: torch.cat([self.image(label, id) for id in few]) for label in labels}
        sheet = contact_sheet(captions[:ROWS], columns, note=note, heat=heat, heat_label="uncertainty of each token")
        save_png(self.folder / SHEET, sheet)
        return self.folder / SHEET

    def image(self, label: str, id: str) -> Float[Tensor, "1 3 s s"]:
        """A picture read back."""
        return to_tensor(np.asarray(upright(self.path(label, id)))[None])

    def record(self, rows: Iterable[Notes]) -> None:
        """Write the manifest: one line of JSON per item."""
        write_text(self.folder / MANIFEST, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))

    def report(self, result: Result, table: str) -> None:
        """Write results.json and results.md."""
        text = json.dumps(result, indent=1, ensure_ascii=False, default=str)
        write_text(self.folder / "results.json", f"{text}\n")
        write_text(self.folder / "results.md", f"{table}\n")


def notes_in(path: Path) -> Notes:
    """The notes kept in a safetensors file of ours."""
    try:
        with safe_open(path, framework="pt") as file:
            notes = json_of((file.metadata() or {}).get("notes", "{}"), str(path))
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not one of our files ({error}); delete it") from None
    if not isinstance(notes, dict):
        raise ValueError(f"{path} is not one of our files; delete it")
    return notes


def require_same(path: Path, made: Notes, asked: Notes) -> None:
    """Refuse to pass off what was made otherwise as what is asked for."""
    for key, value in asked.items():
        if made.get(key) != value:
            raise ValueError(
                f"{path} was made with {key} = {made.get(key)!r}, not {value!r}; choose another --out, or delete it"
            )
