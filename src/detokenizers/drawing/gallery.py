"""The folder a drawing verb leaves: one PNG per decoder and item, each carrying how it was made, and what sums them up.

OUT/DECODER/ITEM.png, OUT/tokens/ITEM.safetensors, OUT/manifest.jsonl, OUT/sheet.png; in shards OUT/DECODER/*.tar.
A picture is written whole or not at all, so what is there is done; one that was made otherwise is an error. The
manifest is there as soon as a picture is, and lists all that was ever drawn into the folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..checkpoint import write_text
from ..data.images import notes_of, save_png, upright
from ..data.marks import MANIFEST, MARK, SHEET, require_ours
from ..device import is_first
from ..evaluation.results import Result
from ..evaluation.sheets import contact_sheet
from ..evaluation.tables import table
from ..pixels import to_tensor
from ..tars import Packed, exists
from ..texts import text_in
from .shards import pack

ORIGINAL = "original"
ROWS = 24
"""Items on a contact sheet."""
VERSIONS = {name: version(name) for name in ("detokenizers", "torch", "transformers", "diffusers")}
Notes = Mapping[str, Any]


class Gallery:
    """Reads and writes one such folder; somebody else's manifest or sheet in it is an error."""

    def __init__(self, folder: Path) -> None:
        require_ours(folder, MANIFEST)
        self.folder = folder
        self.expected: Sequence[Notes] = ()
        self._files: dict[str, Packed] = {}

    def files(self, label: str) -> Packed:
        """A decoder's pictures, loose and in shards."""
        if label not in self._files:
            self._files[label] = Packed(self.folder / label)
        return self._files[label]

    def path(self, label: str, id: str) -> Path:
        return self.files(label).path(f"{id}.png")

    def lacks(self, label: str, id: str, notes: Notes) -> bool:
        """Whether a picture is still to be drawn.

        Raises:
            ValueError: it is there, but was made otherwise.
        """
        path = self.path(label, id)
        if not exists(path):
            return True
        require_same(path, notes_of(path), notes)
        return False

    def keep(self, label: str, id: str, image: Float[Tensor, "3 h w"], notes: Notes) -> None:
        """Write a picture with its notes and the versions that drew it; after the first, the manifest."""
        save_png(self.folder / label / f"{id}.png", image, {**notes, "versions": VERSIONS})
        if self.expected:
            known = self.rows()
            self._write(known | {row["id"]: row for row in self.expected if row["id"] not in known})
            self.expected = ()

    def pack(self, label: str, number: int, prompts: Mapping[str, str | None]) -> None:
        """Move pictures of these ids, with their prompts, into the shard of this number."""
        texts = {f"{id}.txt": prompt for id, prompt in prompts.items() if prompt is not None}
        pack(self.files(label), number, [f"{id}.png" for id in prompts], texts)

    def packed(self, label: str, ids: Iterable[str]) -> bool:
        """Whether all of these are in shards now, whoever wrote them."""
        self.files(label).refresh()
        return all(f"{id}.png" in self.files(label).where for id in ids)

    def show(
        self,
        rows: Sequence[Notes],
        labels: Sequence[str],
        *,
        note: str,
        confidence: Callable[[str], Float[Tensor, "gh gw"]] | None = None,
    ) -> Path:
        """Draw the contact sheet of the first rows of the manifest that all these decoders have drawn.

        Args:
            confidence: of an item's tokens, by id.
        """
        drawn = (row for row in rows if all(exists(self.path(label, row["id"])) for label in labels))
        few = list(islice(drawn, ROWS))
        heat = None if confidence is None else 1 - torch.stack([confidence(row["id"]) for row in few])
        columns = {label: torch.cat([self.image(label, row["id"]) for row in few]) for label in labels}
        captions = [row.get("prompt", row["id"]) for row in few]
        sheet = contact_sheet(captions, columns, note=note, heat=heat, heat_label="uncertainty of each token")
        save_png(self.folder / SHEET, sheet, MARK)
        return self.folder / SHEET

    def image(self, label: str, id: str) -> Float[Tensor, "1 3 s s"]:
        """A picture read back."""
        return to_tensor(np.asarray(upright(self.path(label, id)))[None])

    def expect(self, rows: Sequence[Notes]) -> None:
        """Set the rows that the manifest gets with the first new picture, which make the folder ours."""
        self.expected = rows if is_first() else ()

    def record(self, rows: Iterable[Notes]) -> list[Notes]:
        """Write the manifest of what has been drawn, one line of JSON per item: these items and all earlier ones."""
        known = self.rows()
        for row in rows:
            before = known.get(row["id"], row)["decoders"]
            every = before if set(row["decoders"]) <= set(before) else [*dict.fromkeys([*row["decoders"], *before])]
            known[row["id"]] = {**known.get(row["id"], {}), **row, "decoders": every}
        # Asked for once and never drawn (a typo, for example): left out, or it would count as missing for ever.
        drawn = {id: row for id, row in known.items() if any(exists(self.path(label, id)) for label in row["decoders"])}
        self._write(drawn)
        return list(drawn.values())

    def rows(self) -> dict[str, Notes]:
        """The manifest by id; nothing where there is none."""
        path = self.folder / MANIFEST
        text = text_in(path) if path.exists() else ""
        try:
            found = [json.loads(line) for line in text.split("\n") if line]
            return {row["id"]: row for row in found if row["decoders"]}
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error}); delete it, and the same command writes it anew") from None

    def _write(self, rows: Mapping[str, Notes]) -> None:
        write_text(self.folder / MANIFEST, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows.values()))


@dataclass(frozen=True)
class Drawn:
    """What a call left in a folder."""

    gallery: Gallery
    labels: tuple[str, ...]
    """The decoders, in the order of the sheet."""
    rows: tuple[Notes, ...]
    """The manifest's lines of the items that were asked for."""
    sheet: Path
    scores: Mapping[str, Mapping[str, Result]] = field(default_factory=dict)
    """By decoder and measure, where there are originals to compare with."""

    @property
    def folder(self) -> Path:
        return self.gallery.folder

    def paths(self, label: str) -> list[Path]:
        """The pictures of one decoder, in the order of `rows`; in shards, paths that lead into tars (`tars.opened`)."""
        return [self.gallery.path(label, row["id"]) for row in self.rows]

    def table(self) -> str:
        """The scores as Markdown; without scores, the items with their seeds."""
        if self.scores:
            return table("decoder", self.scores)
        lines = [f"| {row['id']} | {row['seed']} | {row['prompt']} |" for row in self.rows]
        return "\n".join(["| item | seed | prompt |", "|---|---:|---|", *lines])


def require_same(path: Path, made: Notes, asked: Notes) -> None:
    """Refuse to pass off what was made otherwise as what is asked for."""
    for key, value in asked.items():
        if made.get(key) != value:
            raise ValueError(
                f"{path} was made with {key} = {made.get(key)!r}, not {value!r}; choose another --out, or delete it"
            )
