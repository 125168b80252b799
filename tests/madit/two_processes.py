"""What `torchrun --nproc-per-node 2` runs for test_shards, at tiny size: both stages of a MaDiT, and the language model's
recipe, whole and in shards."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist

from detokenizers.data.sources import WorldImages
from detokenizers.madit.language_runs import LanguageRun
from detokenizers.madit.recipes import mini, mini_flow, qwen_7b
from detokenizers.madit.runs import StageOneRun, StageTwoRun
from detokenizers.training import train
from tests import stack
from tests.training.two_processes import train_in_shards

BLOCKS = "Qwen2DecoderLayer"
IMAGES = WorldImages(world=stack.WORLD.config, count=12)


def one(out: Path) -> StageOneRun:
    """Vectors pass unrounded for two steps; codes start as their clusters, move for two more and restart."""
    return mini().vary(
        {
            "images": IMAGES,
            "cache": str(out / "cache"),
            "exact": 12,
            "model.codes": {
                "kind": "own", "space": {"name": str(out / "vae")}, "image_size": stack.PIXELS, "patch": 2, "codes": 8,
                "dim": 6, "adapter": {"width": 8, "blocks": 1, "groups": 4},
                "rule": {"kind": "ema", "restarts": {"below": 0.5, "age": 0}},
            },
            "model.trunk": {"width": 16, "encoder": 1, "decoder": 1, "heads": 2, "dropout": 0.0, "text": "none"},
            "model.head": {"width": 16, "blocks": 1},
            "schedule": {"unquantised": 2, "collect": 64},
            "train": {"steps": 4, "batch_size": 4, "lr": 1e-2, "warmup": 0, "log_every": 1, "ema_decay": 0.0},
        }
    )  # fmt: skip


def two(out: Path, start: Path) -> StageTwoRun:
    """The flow around what a stage 1 left."""
    row = one(out)
    changes = {
        "images": IMAGES,
        "cache": row.cache,
        "start": str(start),
        "model.head": row.model.head,
        "train": row.train,
    }
    return mini_flow().vary(changes)


def language(out: Path) -> LanguageRun:
    """Recomputed activations and accumulation as the recipe has them."""
    return qwen_7b().vary(
        {
            "tokenizer": str(out / "madit"),
            "images": IMAGES,
            "model.name": str(out / "qwen"),
            "cache": str(out / "cache"),
            "train": {"steps": 3, "batch_size": 8, "accumulate": 2, "lr": 1e-2, "warmup": 0, "log_every": 1,
                      "ema_decay": 0.0, "checkpointing": True},
        }
    )  # fmt: skip


def main(out: Path) -> None:
    torch.set_num_threads(1)
    train(one(out).job(), one(out).train, out / "one")
    flow = two(out, out / "one")
    train(flow.job(), flow.train, out / "two")
    row = language(out)
    half = row.vary({"train.precision": "bf16"})
    train(row.job(), row.train, out / "whole")
    train_in_shards(row.job(), row.train, out / "shards", BLOCKS)
    train_in_shards(half.job(), half.train, out / "half", BLOCKS)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
