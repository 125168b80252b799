"""The state of a run as one safetensors file: weights, buffers, optimiser moments, EMA and the step, saved atomically.

objective + optimiser + EMA + step <-> state.safetensors
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..checkpoint import load_tensors, save_tensors
from .ema import EMA

STATE = "state.safetensors"


def save_state(folder: Path, objective: nn.Module, optimizer: Optimizer, ema: EMA, step: int) -> None:
    tensors = {f"trained/{name}": tensor for name, tensor in _evolving(objective).items()}
    tensors |= {f"ema/{name}": tensor for name, tensor in ema.shadow.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": torch.as_tensor(value) for name, value in moments.items()}
    tensors["step"] = torch.tensor(step)
    tensors["ema_updates"] = torch.tensor(ema.updates)
    save_tensors(folder / STATE, tensors)


def load_state(folder: Path, objective: nn.Module, optimizer: Optimizer, ema: EMA) -> int:
    """Put a saved state back in place and return the step it was saved after; 0 when there is none."""
    if not (folder / STATE).exists():
        return 0
    tensors = load_tensors(folder / STATE)
    place = _evolving(objective)
    moments: dict[int, dict[str, Tensor]] = {}
    with torch.no_grad():
        for key, tensor in tensors.items():
            kind, _, name = key.partition("/")
            if kind == "optimizer":
                index, _, moment = name.partition("/")
                moments.setdefault(int(index), {})[moment] = tensor
            elif kind in ("trained", "ema"):
                target = (place if kind == "trained" else ema.shadow).get(name)
                if target is None or target.shape != tensor.shape:
                    raise ValueError(
                        f"{folder / STATE} was saved by another model ({name} does not fit); "
                        "train into a new --out folder or delete this one"
                    )
                target.copy_(tensor)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    ema.updates = int(tensors["ema_updates"])
    return int(tensors["step"])


def _evolving(objective: nn.Module) -> dict[str, Tensor]:
    """Trainable weights and saved buffers; what is frozen comes from where it came from the first time."""
    frozen = {name for name, p in objective.named_parameters() if not p.requires_grad}
    return {name: t for name, t in objective.state_dict(keep_vars=True).items() if name not in frozen}
