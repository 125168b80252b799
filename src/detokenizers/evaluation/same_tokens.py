"""What a person wants to know before believing a comparison: the first pictures side by side, and the same tokens.

folders, ids -sheet-> evaluation.png ; tokens/ of both folders -same_tokens-> yes | no | unknown
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from ..checkpoint import load_tensors
from ..data.images import save_png
from ..data.marks import EVALUATION, MARK, TOKENS
from ..pixels import to_tensor
from .one_pass import Side
from .sheets import contact_sheet
from .sides import Folder, Rows

SHOWN = 8


def sheet(out: Path, measured: Sequence[str], sides: Mapping[str, Side]) -> Path | None:
    """Draw the first pictures of every side; None where other programs would find the sheet among the pictures."""
    for side in sides.values():
        if isinstance(side, Folder) and {out.resolve(), *out.resolve().parents} & side.roots:
            return None
    ids = measured[:SHOWN]
    columns = {name: [to_tensor(np.asarray(side.read(id))[None]) for id in ids] for name, side in sides.items()}
    alike = {name: torch.cat(column) for name, column in columns.items() if len({one.shape for one in column}) == 1}
    save_png(out / EVALUATION, contact_sheet(ids, alike, note=f"the first {len(ids)} of {len(measured)}"), MARK)
    return out / EVALUATION


def same_tokens(rows: Rows, ids: Sequence[str]) -> str:
    """Whether the decoders drew from the same tokens, as far as the folders know: `yes`, `no (ID)` or `unknown`."""
    homes = [tokens_beside(files[0].path) for files in rows.values()]
    if None in homes:
        return "unknown"
    first, *others = dict.fromkeys(home for home in homes if home)
    for id in ids:
        kept = [home / f"{id}.safetensors" for home in (first, *others)]
        if not all(path.exists() for path in kept):
            return "unknown"
        one, *more = (load_tensors(path)["ids"] for path in kept) if others else (torch.empty(0),)
        if any(not one.equal(other) for other in more):
            return f"no ({id})"
    return "yes"


def tokens_beside(picture: Path) -> Path | None:
    """The folder `tokens` that `generate` keeps beside its decoders' folders."""
    return next((place / TOKENS for place in picture.parents if (place / TOKENS).is_dir()), None)
