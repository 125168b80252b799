"""One word to a trained decoder: the embedded one, a run folder, or a Hub id the user named.

name -load-> DCDD, frozen, on its device.
"""

from __future__ import annotations

from pathlib import Path

import torch
from huggingface_hub import snapshot_download

from ..checkpoint import resolve
from .model import CONFIG, DCDD


def load(name: str | Path, *, device: str | torch.device = "cpu") -> DCDD:
    """Load a trained DCDD decoder. Nothing is downloaded unless `name` is a Hub id, owner/name.

    Args:
        name: `mini/dcdd` (embedded), the folder of a run, or a Hub id.

    Raises:
        ValueError: nothing is there, it is not a DCDD decoder, or its weights are damaged or do not fit.
    """
    folder = found(str(name))
    if not (folder / CONFIG).exists():
        raise ValueError(f"{folder} holds no DCDD decoder ({CONFIG} is missing); has its training been exported?")
    return DCDD.load(folder).to(device)


def found(name: str) -> Path:
    """The folder of a name; a Hub id that is no folder here is downloaded."""
    try:
        return resolve(name)
    except ValueError:
        if name.startswith(("mini/", ".", "/", "~")) or name.count("/") != 1:
            raise
    try:
        return Path(snapshot_download(name, allow_patterns=["*.yaml", "*.safetensors", "*/config.json"]))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"there is no folder {name!r} here, and it cannot be had from the Hub: {reason}") from None
