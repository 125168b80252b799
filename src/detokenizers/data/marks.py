"""How a folder is known to be ours: by the record its verb leaves in it. Nothing else is overwritten, and nothing that
we drew is taken for somebody's picture.

    generate, reconstruct  manifest.jsonl, a line of JSON per item, with `id` and `decoders`
    evaluate, reconstruct  results.json, with `decoders` and our `versions`
    both                   sheet.png and evaluation.png, with a note inside

folder -is_manifest, is_results-> ours or not ; folder -require_ours-> go on, or one clear error
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from PIL import Image

MANIFEST, SHEET, TOKENS = "manifest.jsonl", "sheet.png", "tokens"
RESULTS, TABLE, EVALUATION = "results.json", "results.md", "evaluation.png"


def is_manifest(path: Path) -> bool:
    """Whether a file is a manifest of `generate` or `reconstruct`; known by its first line."""
    first = _first_line(path)
    return isinstance(first.get("id"), str) and isinstance(first.get("decoders"), list)


def is_captions(path: Path) -> bool:
    """Whether a file is what `describe` writes; known by its first line."""
    return _first_line(path).keys() == {"id", "caption", "vlm"}


def _first_line(path: Path) -> dict[str, Any]:
    """The JSON object in the first line of a file; an empty one where there is none."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            first = json.loads(file.readline())
    except (OSError, ValueError):
        return {}
    return first if isinstance(first, dict) else {}


def is_results(path: Path) -> bool:
    """Whether a file is a report of `evaluate` or `reconstruct`."""
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and "decoders" in found and "detokenizers" in (found.get("versions") or {})


WRITTEN = {
    MANIFEST: ((MANIFEST, SHEET), is_manifest),
    RESULTS: ((RESULTS, TABLE, EVALUATION), is_results),
}
"""What goes with a record, and how the record is known."""
SHEETS = {SHEET: MANIFEST, EVALUATION: RESULTS}


MARK = {"made_by": "detokenizers"}
"""The note inside our contact sheets."""


def is_sheet(path: Path) -> bool:
    """Whether a picture is a contact sheet of ours, and not one of the pictures of its folder."""
    if path.name not in SHEETS or not path.exists():
        return False
    record = SHEETS[path.name]  # beside sheets of before there was a mark
    return _is_marked(path) or WRITTEN[record][1](path.with_name(record))


def _is_marked(path: Path) -> bool:
    try:
        with Image.open(path) as picture:
            return picture.info.keys() >= MARK.keys()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def require_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written or made, before hours go into what was to be written."""
    place = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not (place.is_dir() and os.access(place, os.W_OK)):
        raise ValueError(f"nothing can be written into {folder}: {place} is read-only, or a file; choose another --out")


def require_ours(folder: Path, *records: str) -> None:
    """Refuse to write into a folder where that would replace somebody else's files.

    Args:
        records: `MANIFEST` for what a drawing verb leaves, `RESULTS` for a report; what goes with a record is ours
            where the record is.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, and a folder is needed there")
    require_writable(folder)
    for record in records:
        names, ours = WRITTEN[record]
        if not ours(folder / record) and (
            taken := [name for name in names if (folder / name).exists() and not is_sheet(folder / name)]
        ):
            raise ValueError(
                f"{folder / taken[0]} was not written by detok and would be lost; move it, or choose another --out"
            )
