"""What several processes must agree on: the device, the order of items, and whole tensors where FSDP2 keeps shards.

`torchrun` and `accelerate launch` start the same program several times; alone, all of this does nothing.
one process's rows -everywhere-> all rows ; shard -whole-> tensor -sharded_like-> shard
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor, distribute_tensor

from ..device import world_size
from .train_settings import TrainConfig


def computing_device() -> torch.device:
    """The device that training will use in this process."""
    device = PartialState(cpu=_on_cpu()).device
    assert device is not None
    return device


def start(config: TrainConfig, folder: str) -> Accelerator:
    """An accelerator for these settings, whatever was trained in this Python process before.

    Raises:
        ValueError: the tracker is unknown or not installed, or the precision is fp16 under FSDP2.
    """
    # Accelerate keeps its settings for good; a second training in one session may want another precision.
    AcceleratorState._reset_state()
    # Gradients live in DDP's buckets, not beside them: a copy less of what learns.
    buckets = DistributedDataParallelKwargs(gradient_as_bucket_view=True)
    accelerator = Accelerator(
        kwargs_handlers=[buckets],
        cpu=_on_cpu(),
        mixed_precision=config.precision,
        gradient_accumulation_steps=config.accumulate,
        log_with=config.track,
        project_dir=folder,
    )
    if config.track and not accelerator.log_with:
        raise ValueError(f"train.track is {config.track!r}, but it is not installed; `pip install {config.track}`")
    if accelerator.is_fsdp2 and config.precision == "fp16":
        raise ValueError("under FSDP2 train.precision is bf16 or no, not fp16; bf16 needs no loss scale")
    if accelerator.is_fsdp2 and config.precision == "bf16":
        # Shards, moments and the sum of gradients stay fp32. What is given to the objective is not cast: accelerate's
        # own policy would round the latents and the distributions along with the net's weights.
        plugin: Any = accelerator.state.fsdp_plugin
        plugin.mixed_precision_policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
    return accelerator


def prepare_for_shards(module: nn.Module, accelerator: Accelerator) -> None:
    """FSDP2 takes no channels-last weights. Models in which nothing learns (an autoencoder) are not sharded, and so
    compute in their own precision and layout."""
    plugin = accelerator.state.fsdp_plugin
    assert plugin is not None
    frozen = [model for model in models_in(module) if not any(weight.requires_grad for weight in model.parameters())]
    plugin.ignored_modules = frozen
    kept = {weight for model in frozen for weight in model.to(accelerator.device).parameters()}
    for weight in module.parameters():
        if weight not in kept:
            weight.data = weight.data.contiguous()


def models_in(module: nn.Module) -> Iterator[nn.Module]:
    """The diffusers and transformers models in a module, which state whether they can recompute activations."""
    for model in module.modules():
        if hasattr(model, "_supports_gradient_checkpointing") or hasattr(model, "supports_gradient_checkpointing"):
            yield model


def _on_cpu() -> bool:
    """Several processes on a machine without accelerator: accelerate joins them only if it is set to the CPU."""
    return world_size() > 1 and not torch.accelerator.is_available()


def everywhere(rows: Tensor) -> Tensor:
    """The rows of all processes in the order of their ranks: what one process would have of the whole batch."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


def whole(tensor: Tensor) -> Tensor:
    """The tensor behind a shard; every process must call this at the same time."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def sharded_like(tensor: Tensor, target: Tensor) -> Tensor:
    """The whole tensor, which every process has, laid out on the target's device and shards."""
    tensor = tensor.to(target.device, target.dtype)
    if isinstance(target, DTensor):
        return distribute_tensor(tensor, target.device_mesh, target.placements, src_data_rank=None)
    # Same strides as the target, or the optimiser takes another code path, which rounds differently.
    return torch.empty_like(target, requires_grad=False).copy_(tensor)


def mean(accelerator: Accelerator, value: Tensor) -> Tensor:
    """The mean of a number over all processes."""
    reduced = accelerator.reduce(value, "mean")
    assert isinstance(reduced, Tensor)
    return reduced


def is_sharded(module: nn.Module) -> bool:
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


@contextmanager
def gathered(module: nn.Module, *, keep: bool) -> Iterator[None]:
    """Inside the block a sharded module has whole weights, on the CPU, in the process that keeps them."""
    shards = [
        (part, name, parameter)
        for part in module.modules()
        for name, parameter in part.named_parameters(recurse=False)
        if isinstance(parameter, DTensor)
    ]
    for part, name, parameter in shards:
        full = whole(parameter.detach())
        if keep:
            setattr(part, name, nn.Parameter(full.cpu(), requires_grad=parameter.requires_grad))
    try:
        yield
    finally:
        for part, name, parameter in shards:
            setattr(part, name, parameter)
