"""How many images a second does a decoder learn from? The training loop itself, timed step by step on the mini DCDD.

    OMP_NUM_THREADS=1 python benchmarks/training_step.py [--batch 16] [--steps 12] [--precision bf16] [--checkpointing]

a few scenes -DCDDRun.job-> objective, batches -train-> log.jsonl; one JSON row of the median step. On a machine with an
accelerator, ACCELERATE_USE_CPU=1 times its CPU instead.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import torch

from detokenizers.data.sources import WorldImages
from detokenizers.dcdd.recipes import RECIPES
from detokenizers.training import train
from detokenizers.training.processes import computing_device
from detokenizers.training.report import LOG, read_log

WARM = 2


def main() -> None:
    parser = argparse.ArgumentParser(description="Training throughput of a mini DCDD recipe.")
    parser.add_argument("--recipe", default="dcdd.mini", choices=[name for name in RECIPES if ".mini" in name])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=12, help="Timed steps.")
    parser.add_argument("--precision", default="no", choices=["no", "bf16", "fp16"])
    parser.add_argument("--checkpointing", action="store_true", help="Recompute activations.")
    args = parser.parse_args()
    if args.steps < 3:
        parser.error("a median needs at least 3 steps")

    with tempfile.TemporaryDirectory() as place:
        changes = {
            "images": WorldImages(count=64),
            "cache": f"{place}/cache",
            "train.steps": args.steps + WARM + 1,
            "train.batch_size": args.batch,
            "train.precision": args.precision,
            "train.checkpointing": args.checkpointing,
            "train.log_every": 1,
            "train.save_minutes": 1e9,
        }
        run = RECIPES[args.recipe]().vary(changes)
        job = run.job()
        train(job, run.train, Path(place) / "run")
        clock = [row["seconds"] for row in read_log(Path(place) / "run" / LOG)][WARM:]
    seconds = statistics.median(after - before for before, after in pairwise(clock))
    device = computing_device()
    row = {
        "benchmark": "training_step",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "precision": args.precision,
        "torch": version("torch"),
        "diffusers": version("diffusers"),
        "recipe": args.recipe,
        "batch": args.batch,
        "checkpointing": args.checkpointing,
        "learning_parameters": sum(weight.numel() for weight in job.objective.parameters() if weight.requires_grad),
        "steps": args.steps,
        "step_seconds": round(seconds, 4),
        "samples_per_second": round(args.batch / seconds, 2),
    }
    if device.type == "cuda":
        row["peak_gib"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 3)
    print(json.dumps(row))


if __name__ == "__main__":
    main()
