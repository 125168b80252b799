"""The state of a run as one safetensors file, saved atomically: weights, buffers, optimisers' moments, EMA and step.

objective + optimisers + EMA + step <-> state.safetensors
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..checkpoint import load_tensors, save_tensors
from .ema import EMA
from .processes import sharded_like, whole

STATE = "state.safetensors"
STEP, UPDATES = "step", "ema_updates"
MOMENT = {torch.optim.AdamW: "exp_avg", torch.optim.Muon: "momentum_buffer"}
"""What each optimiser keeps of every weight."""


def save_state(
    folder: Path, objective: nn.Module, optimizers: Sequence[Optimizer], ema: EMA, step: int, *, write: bool = True
) -> None:
    """Save what training needs to go on, whole or not at all.

    All processes call this together, since shards must be gathered; one of them writes.
    """
    tensors = {}
    for name, tensor in _tensors(objective, optimizers, ema):
        full = whole(tensor.detach())
        if write:
            tensors[name] = full.cpu()
    if write:
        save_tensors(folder / STATE, tensors | {STEP: torch.tensor(step), UPDATES: torch.tensor(ema.updates)})


def load_state(folder: Path, objective: nn.Module, optimizers: Sequence[Optimizer], ema: EMA) -> int:
    """Load a saved state and return the step it was saved after; 0 when there is none.

    Raises:
        ValueError: the file is damaged, or another model's.
    """
    if not (folder / STATE).exists():
        return 0
    tensors = load_tensors(folder / STATE)
    step, ema.updates = int(tensors.pop(STEP)), int(tensors.pop(UPDATES))
    targets = {f"trained/{name}": tensor for name, tensor in _evolving(objective).items()}
    targets |= {f"ema/{name}": tensor for name, tensor in ema.shadow.items()}
    saved = {name: tensor for name, tensor in tensors.items() if not name.startswith("optimizer/")}
    if not ema.shadow:
        saved = {name: tensor for name, tensor in saved.items() if not name.startswith("ema/")}
    odd = sorted(name for name in targets.keys() | saved.keys() if _shape(targets, name) != _shape(saved, name))
    if odd:
        raise _another_model(folder, odd[0])
    with torch.no_grad():
        for name, tensor in saved.items():
            targets[name].copy_(sharded_like(tensor, targets[name]))
    _load_moments(folder, optimizers, {name: tensor for name, tensor in tensors.items() if name not in saved})
    return step


def remove_leftovers(folder: Path) -> None:
    """Delete what a process that was killed while it saved left beside the state: our copy and that of safetensors."""
    for pattern in (f".{STATE}.*", ".tmp??????"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def _tensors(objective: nn.Module, optimizers: Sequence[Optimizer], ema: EMA) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in _evolving(objective).items():
        yield f"trained/{name}", tensor
    for name, tensor in ema.shadow.items():
        yield f"ema/{name}", tensor
    for first, optimizer in _numbered(optimizers):
        for index, moments in optimizer.state_dict()["state"].items():
            for name, value in moments.items():
                yield f"optimizer/{first + index}/{name}", torch.as_tensor(value)


def _numbered(optimizers: Sequence[Optimizer]) -> Iterator[tuple[int, Optimizer]]:
    """Each optimiser with the number of its first weight; weights are counted through all of them."""
    first = 0
    for optimizer in optimizers:
        yield first, optimizer
        first += len(_weights(optimizer))


def _weights(optimizer: Optimizer) -> list[Tensor]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def _load_moments(folder: Path, optimizers: Sequence[Optimizer], tensors: dict[str, Tensor]) -> None:
    weights = [weight for optimizer in optimizers for weight in _weights(optimizer)]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        kind, _, rest = key.partition("/")
        index, _, moment = rest.partition("/")
        if kind != "optimizer":
            continue
        if int(index) >= len(weights) or (tensor.ndim and tensor.shape != weights[int(index)].shape):
            raise _another_model(folder, key)
        # Counters are single numbers and stay where they are; moments lie as their weights do.
        state.setdefault(int(index), {})[moment] = sharded_like(tensor, weights[int(index)]) if tensor.ndim else tensor
    for first, optimizer in _numbered(optimizers):
        own = {index: state[first + index] for index in range(len(_weights(optimizer))) if first + index in state}
        for index, moments in own.items():
            if MOMENT[type(optimizer)] not in moments:
                raise _another_model(folder, f"optimizer/{first + index} of another optimiser")
        optimizer.load_state_dict({"state": own, "param_groups": optimizer.state_dict()["param_groups"]})


def _evolving(objective: nn.Module) -> dict[str, Tensor]:
    """Trainable weights and saved buffers; what is frozen comes from where it came from the first time."""
    frozen = {name for name, p in objective.named_parameters() if not p.requires_grad}
    return {name: t for name, t in objective.state_dict(keep_vars=True).items() if name not in frozen}


def _shape(tensors: dict[str, Tensor], name: str) -> torch.Size | None:
    return tensors[name].shape if name in tensors else None


def _another_model(folder: Path, name: str) -> ValueError:
    return ValueError(
        f"{folder / STATE} was saved by another model ({name} does not fit); "
        "train into a new --out folder or delete this one"
    )
