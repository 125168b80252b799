"""Other people's weight files as names and tensors. Nothing in them is executed.

FILE: safetensors, torch or TorchScript -tensors_in-> {name: tensor} <-tensors_under- FOLDER of shards
"""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...checkpoint import load_tensors, reason
from .torchscript import is_scripted, scripted_tensors

CONTAINERS = ("model", "module", "state_dict")
"""Where training checkpoints keep their tensors, beside optimizer state and arguments."""


def tensors_in(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file, by what the file is.

    Raises:
        ValueError: there is no such file, it is damaged, asks for code, or holds no tensors.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return load_tensors(path)
    if not path.is_file():
        raise ValueError(f"there are no weights at {path}")
    if is_scripted(path):
        return scripted_tensors(path)
    try:
        # Checkpoints may carry their training arguments as an argparse.Namespace; nothing else is allowed.
        with torch.serialization.safe_globals([argparse.Namespace]):
            holder: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path} is not a readable weight file ({reason(error)}); was its download cut off?") from None
    tensors = next((holder[name] for name in CONTAINERS if isinstance(holder, dict) and name in holder), holder)
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ValueError(f"{path} holds no state dict of tensors, by itself or under {', '.join(CONTAINERS)}")
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def tensors_under(folder: Path, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a prefix, without it, from all shards of a transformers model; nothing else is read."""
    found = {}
    for shard in sorted(folder.glob("model*.safetensors")):
        try:
            with safe_open(shard, "pt") as file:
                found |= {k.removeprefix(prefix): file.get_tensor(k) for k in file.keys() if k.startswith(prefix)}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(f"{shard} is not a readable safetensors file: {error}") from None
    if not found:
        raise ValueError(f"there are no weights (model*.safetensors{prefix and f' with {prefix}*'}) in {folder}")
    return found
