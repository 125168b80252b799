"""What `torchrun --nproc-per-node 2` runs for test_shards: the language model's recipe at tiny size, whole and in shards."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist

from detokenizers.data.sources import WorldImages
from detokenizers.madit.language_runs import LanguageRun
from detokenizers.madit.recipes import qwen_7b
from detokenizers.training import train
from tests import stack
from tests.training.two_processes import train_in_shards

BLOCKS = "Qwen2DecoderLayer"


def run(out: Path) -> LanguageRun:
    """Recomputed activations and accumulation as the recipe has them."""
    return qwen_7b().vary(
        {
            "tokenizer": str(out / "madit"),
            "images": WorldImages(world=stack.WORLD.config, count=12),
            "model.name": str(out / "qwen"),
            "cache": str(out / "cache"),
            "train": {"steps": 3, "batch_size": 8, "accumulate": 2, "lr": 1e-2, "warmup": 0, "log_every": 1,
                      "ema_decay": 0.0, "checkpointing": True},
        }
    )  # fmt: skip


def main(out: Path) -> None:
    torch.set_num_threads(1)
    row = run(out)
    half = row.vary({"train.precision": "bf16"})
    train(row.job(), row.train, out / "whole")
    train_in_shards(row.job(), row.train, out / "shards", BLOCKS)
    train_in_shards(half.job(), half.train, out / "half", BLOCKS)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
