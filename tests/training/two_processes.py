"""What `torchrun --nproc-per-node 2` runs for test_processes: plain data-parallel trainings, then FSDP2."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch import nn

from detokenizers.training import Job, TrainConfig, train
from detokenizers.training.schedules import Constant
from detokenizers.training.state import STATE

from . import tokenizer, toy


def train_in_shards(job: Job, config: TrainConfig, folder: Path, blocks: str = "Block") -> None:
    """Train as under runs/fsdp2.yaml. Accelerate offers FSDP2 to accelerators only, so it is told these are two."""
    settings = {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_TRANSFORMER_CLS_TO_WRAP": blocks,
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    }
    os.environ.update(settings)
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    train(job, config, folder)


def train_in_half(folder: Path) -> None:
    """bf16 in shards; writes down what a block's weight and input and a frozen model's weight are as it computes."""
    job, seen = toy.job(), {}
    frozen = job.objective.judge = toy.Judge()

    def note(block: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        seen.update(weight=block.conv.weight.dtype, input=inputs[0].dtype, judge=frozen.weight.dtype)

    job.objective.blocks[0].register_forward_pre_hook(note)
    train_in_shards(job, toy.CONFIG.vary({"precision": "bf16"}), folder)
    seen["shard"] = job.objective.get_parameter("blocks.0.conv.weight").dtype
    if dist.get_rank() == 0:
        (folder / "seen.json").write_text(json.dumps({name: str(dtype) for name, dtype in seen.items()}))


def main(out: Path) -> None:
    torch.set_num_threads(1)
    train(toy.job(), toy.CONFIG, out / "ddp")
    train(toy.job(seed=dist.get_rank()), toy.CONFIG.vary({"steps": 0}), out / "first weights")
    train(tokenizer.job(), tokenizer.CONFIG, out / "tokenizer")
    try:
        train(toy.job(), toy.CONFIG.vary({"batch_size": 3}), out / "odd")
    except ValueError as error:
        (out / f"odd-{dist.get_rank()}.txt").write_text(str(error))
    train_in_shards(toy.job(), toy.CONFIG, out / "fsdp2")

    # Six steps in shards, whose state goes on below in shards, and in the test in one process.
    half, job = toy.CONFIG.vary({"steps": 6, "schedule": Constant(), "warmup": 0}), toy.job()
    train_in_shards(job, half, out / "half")
    dist.barrier()
    if dist.get_rank() == 0:
        shutil.copytree(out / "half" / STATE, out / "half of one" / STATE)
        (out / "kind.txt").write_text(type(job.objective.get_parameter("head.weight")).__name__)
    dist.barrier()
    train_in_shards(toy.job(), half.vary({"steps": 9}), out / "half")
    for folder in ("from one", "from before"):  # states that one process saved
        train_in_shards(toy.job(), half.vary({"steps": 9}), out / folder)
    train_in_half(out / "bf16")
    try:
        train_in_shards(toy.job(), toy.CONFIG.vary({"precision": "fp16"}), out / "fp16")
    except ValueError as error:
        (out / f"fp16-{dist.get_rank()}.txt").write_text(str(error))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
