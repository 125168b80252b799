"""One word to a trained decoder: the embedded one, a run folder, or a Hub id the user named.

name -load-> DCDD, frozen, on its device.
"""

from __future__ import annotations

from pathlib import Path

import torch

from ..checkpoint import resolve
from .model import CONFIG, DCDD


def load(name: str | Path, *, device: str | torch.device = "cpu") -> DCDD:
    """Load a trained DCDD decoder. Nothing is downloaded unless `name` is a Hub id, owner/name.

    Args:
        name: `mini/dcdd` (embedded), the folder of a run, or a Hub id.

    Raises:
        ValueError: nothing is there, it is not a DCDD decoder, or its weights are damaged or do not fit.
    """
    folder = resolve(name, ["*.yaml", "*.safetensors", "*/config.json"])
    if not (folder / CONFIG).exists():
        raise ValueError(f"{folder} holds no DCDD decoder ({CONFIG} is missing); has its training been exported?")
    return DCDD.load(folder).to(device)
