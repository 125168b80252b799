"""The state of a run: weights, buffers, optimisers' moments, EMA and step, whole or not at all.

Every process writes its own part as safetensors (`torch.distributed.checkpoint`): shards where there are shards, and of
what all have alike a share, so none holds the whole. The folder gets its name when all parts are there. States of
before, one `state.safetensors`, are still read.

objective + optimisers + EMA + step <-> state/00000012/shard-00001-model-00001-of-00001.safetensors ..
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from ..checkpoint import load_tensors, reason, require_finite
from .ema import EMA
from .processes import sharded_like

STATE, BEFORE = "state", "state.safetensors"
STEP, UPDATES = "step", "ema_updates"
FILE_BYTES = 4 * 2**30
"""Of the whole tensors in one file, about: a process holds one file in memory twice while it writes."""
MOMENT = {torch.optim.AdamW: "exp_avg", torch.optim.Muon: "momentum_buffer"}
"""What each optimiser keeps of every weight."""


def save_state(folder: Path, objective: nn.Module, optimizers: Sequence[Optimizer], ema: EMA, step: int) -> None:
    """Save what training needs to go on, whole or not at all; all processes call this together.

    Raises:
        ValueError: a process cannot write its part; the state before is still there then.
    """
    final, first = folder / STATE / f"{step:08d}", not dist.is_initialized() or dist.get_rank() == 0
    if final.exists():  # the state of this step, saved before
        return
    tensors = {name: _stored(tensor) for name, tensor in _tensors(objective, optimizers, ema).items()}
    tensors |= {STEP: torch.tensor([step]), UPDATES: torch.tensor([ema.updates])}
    files = _files(tensors)
    if not first:  # what is no weight and nobody's shard may differ by process, and then the first one's counts
        own = {f"trained/{name}" for name, _ in objective.named_buffers()} | {STEP, UPDATES}
        tensors = {name: tensor for name, tensor in tensors.items() if name not in own or isinstance(tensor, DTensor)}
    unfinished = final.with_name(f".{final.name}")
    try:
        unfinished.mkdir(parents=True, exist_ok=True)
        writer = dcp.HuggingFaceStorageWriter(str(unfinished), files, save_distributed=True)
        dcp.save(tensors, storage_writer=writer, no_dist=not dist.is_initialized())
        if first:
            unfinished.rename(final)
            (folder / BEFORE).unlink(missing_ok=True)
            for path in final.parent.iterdir():
                if path != final:
                    shutil.rmtree(path)
    except (OSError, SafetensorError, CheckpointException) as error:
        raise ValueError(f"cannot write {final}: {_cause(error)}") from None


def load_state(folder: Path, objective: nn.Module, optimizers: Sequence[Optimizer], ema: EMA) -> int:
    """Load a saved state and return the step it was saved after; 0 when there is none. All processes call this together.

    Raises:
        ValueError: the state is damaged, or another model's.
    """
    saved = _saved(folder)
    if saved is None:
        return 0
    # States once held an average even where none was asked for.
    sizes = {name: size for name, size in saved.sizes.items() if ema.shadow or not name.startswith("ema/")}
    targets = {f"trained/{name}": tensor.detach() for name, tensor in _evolving(objective).items()}
    targets |= {f"ema/{name}": tensor for name, tensor in ema.shadow.items()}
    numbers = {name: torch.zeros(1, dtype=torch.int64) for name in (STEP, UPDATES)}
    expected = {name: tensor.shape for name, tensor in (targets | numbers).items()}
    rest = {name: size for name, size in sizes.items() if not name.startswith("optimizer/")}
    for name in sorted(expected.keys() | rest.keys()):
        if name not in expected or name not in rest or _size(expected[name]) != _size(rest[name]):
            raise _another_model(saved.path, name)
    moments = _moments(saved.path, optimizers, {name: sizes[name] for name in sizes.keys() - rest.keys()})
    everything = targets | numbers | {name: tensor for _, _, name, tensor in moments}
    saved.fill(everything, dist.is_initialized())
    require_finite({name: _local(tensor) for name, tensor in everything.items()}, saved.path)
    for first, optimizer in _numbered(optimizers):
        own: dict[int, dict[str, Tensor]] = {}
        for index, moment, _, tensor in moments:
            if first <= index < first + len(_weights(optimizer)):
                own.setdefault(index - first, {})[moment] = tensor
        optimizer.load_state_dict({"state": own, "param_groups": optimizer.state_dict()["param_groups"]})
    ema.updates = int(numbers[UPDATES])
    return int(numbers[STEP])


def whole_state(folder: Path, names: Collection[str] | None = None) -> dict[str, Tensor]:
    """The saved tensors as one process alone would hold them, or those of these names; nothing where there is no state."""
    saved = _saved(folder)
    if saved is None:
        return {}
    tensors = {name: torch.empty(saved.sizes[name], dtype=saved.types[name]) for name in names or saved.sizes}
    saved.fill(tensors, False)
    return tensors


def has_state(folder: Path) -> bool:
    return bool(_finished(folder)) or (folder / BEFORE).exists()


def remove_leftovers(folder: Path) -> None:
    """Delete what processes that were killed while they saved left, today's and that of states of before."""
    for path in (folder / STATE).glob(".*"):
        shutil.rmtree(path)
    for pattern in (f".{BEFORE}.*", ".tmp??????"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


class _Saved(NamedTuple):
    """A state on disk: what is in it, and what copies it into tensors of those shapes."""

    path: Path
    sizes: Mapping[str, torch.Size]
    types: Mapping[str, torch.dtype]
    fill: Callable[[dict[str, Tensor], bool], None]
    """With True all processes call it together, each for its shards."""


def _saved(folder: Path) -> _Saved | None:
    """The newest state of a run."""
    if finished := _finished(folder):
        return _parts(finished[-1])
    return _one_file(folder / BEFORE) if (folder / BEFORE).exists() else None


def _finished(folder: Path) -> list[Path]:
    """The folders of whole states, by step; one, or two where a process was killed before it deleted the first."""
    return sorted((folder / STATE).glob("[0-9]*"))


def _parts(path: Path) -> _Saved:
    try:
        found = cast("dict[str, Any]", dcp.HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from None
    for name, tensor in found.items():
        if sum(math.prod(chunk.sizes) for chunk in tensor.chunks) != math.prod(tensor.size):
            raise _damaged(path, f"a part of {name} is missing")

    def fill(targets: dict[str, Tensor], together: bool) -> None:
        # DCP keeps no tensor without dimensions; a view of one number is written through.
        views = {name: tensor if tensor.ndim else tensor[None] for name, tensor in targets.items()}
        try:
            dcp.load(views, storage_reader=dcp.HuggingFaceStorageReader(str(path)), no_dist=not together)
        except (SafetensorError, OSError, CheckpointException) as error:
            raise _damaged(path, _cause(error)) from None

    sizes = {name: tensor.size for name, tensor in found.items()}
    return _Saved(path, sizes, {name: tensor.properties.dtype for name, tensor in found.items()}, fill)


def _one_file(path: Path) -> _Saved:
    tensors = load_tensors(path)

    def fill(targets: dict[str, Tensor], together: bool) -> None:
        for name, target in targets.items():
            target.copy_(sharded_like(tensors[name].view(target.shape), target))

    types = {name: tensor.dtype for name, tensor in tensors.items()}
    return _Saved(path, {name: tensor.shape for name, tensor in tensors.items()}, types, fill)


def _tensors(objective: nn.Module, optimizers: Sequence[Optimizer], ema: EMA) -> dict[str, Tensor]:
    tensors = {f"trained/{name}": tensor for name, tensor in _evolving(objective).items()}
    tensors |= {f"ema/{name}": tensor for name, tensor in ema.shadow.items()}
    for first, optimizer in _numbered(optimizers):
        for index, moments in optimizer.state_dict()["state"].items():
            for name, value in moments.items():
                tensors[f"optimizer/{first + index}/{name}"] = torch.as_tensor(value)
    return tensors


def _stored(tensor: Tensor) -> Tensor:
    """As safetensors takes it: dense rows, at least one dimension, and nobody else's memory."""
    tensor = tensor.detach()
    if isinstance(tensor, DTensor):
        return tensor
    tensor = tensor if tensor.ndim else tensor[None]
    return tensor.clone(memory_format=torch.contiguous_format) if tensor.is_cpu else tensor.contiguous()


def _files(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """The number of the file, from 1, that each tensor goes into; the same in all processes."""
    files, filled = {}, 0
    for name, tensor in tensors.items():
        filled += tensor.numel() * tensor.element_size()
        files[name] = 1 + filled // FILE_BYTES
    return files


def _numbered(optimizers: Sequence[Optimizer]) -> Iterator[tuple[int, Optimizer]]:
    """Each optimiser with the number of its first weight; weights are counted through all of them."""
    first = 0
    for optimizer in optimizers:
        yield first, optimizer
        first += len(_weights(optimizer))


def _weights(optimizer: Optimizer) -> list[Tensor]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def _moments(
    path: Path, optimizers: Sequence[Optimizer], sizes: Mapping[str, torch.Size]
) -> list[tuple[int, str, str, Tensor]]:
    """Room for what optimisers keep: the weight's number, what it is, its name in the state, and an empty tensor."""
    weights = [(weight, type(optimizer)) for optimizer in optimizers for weight in _weights(optimizer)]
    found: list[tuple[int, str, str, Tensor]] = []
    for name, size in sizes.items():
        _, index, moment = name.split("/")
        if int(index) >= len(weights):
            raise _another_model(path, name)
        weight, kind = weights[int(index)]
        if f"optimizer/{index}/{MOMENT[kind]}" not in sizes:
            raise _another_model(path, f"optimizer/{index} of another optimiser")
        if moment == "step":  # a counter, which stays where it is
            found.append((int(index), moment, name, torch.zeros(())))
        elif size != weight.shape:
            raise _another_model(path, name)
        else:  # laid out as its weight, or the optimiser takes another code path, which rounds differently
            found.append((int(index), moment, name, torch.empty_like(weight, requires_grad=False)))
    return found


def _evolving(objective: nn.Module) -> dict[str, Tensor]:
    """Trainable weights and saved buffers; what is frozen comes from where it came from the first time."""
    frozen = {name for name, p in objective.named_parameters() if not p.requires_grad}
    return {name: t for name, t in objective.state_dict(keep_vars=True).items() if name not in frozen}


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _size(shape: torch.Size) -> torch.Size:
    """A single number has the shape [1] in a state of parts, and none in one of before."""
    return shape or torch.Size([1])


def _cause(error: BaseException) -> str:
    """The first failure of any process, in a line."""
    failures = [each for each, _ in error.failures.values()] if isinstance(error, CheckpointException) else [error]
    return reason(failures[0]) if isinstance(failures[0], Exception) else repr(failures[0])


def _damaged(path: Path, error: object) -> ValueError:
    return ValueError(f"{path} is not a readable state ({error}); was its copy cut off? Delete it to train anew")


def _another_model(path: Path, name: str) -> ValueError:
    return ValueError(
        f"{path} was saved by another model ({name} does not fit); train into a new --out folder or delete this one"
    )
