"""The one training loop: accelerate for devices, processes and precision; everything else is visible here.

batches(step) -> objective -> loss -> AdamW (warm-up, cosine, clip) -> EMA ; every few minutes: state, curve, preview.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor
from tqdm import tqdm

from ..config import Config
from .ema import EMA
from .job import Job
from .report import draw_curve, save_preview
from .state import load_state, save_state

LOG = "log.jsonl"


class TrainConfig(Config):
    """How long, how fast and how carefully to train. Field defaults suit the embedded stack on two CPU cores."""

    steps: int = 1000
    batch_size: int = 32
    """Items per optimiser step over all processes and accumulation rounds."""
    lr: float = 1e-3
    warmup: int = 100
    final_lr: float = 0.05
    """The cosine schedule ends at this fraction of `lr`; 1 keeps it constant."""
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0
    ema_decay: float = 0.999
    accumulate: int = 1
    precision: str = "no"
    """`no` (fp32), `bf16` or `fp16`, as accelerate names them."""
    seed: int = 0
    log_every: int = 20
    save_minutes: float = 3.0
    """Minutes between checkpoints; each checkpoint also draws the loss curve and a preview."""


def lr_factor(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then a half cosine from 1 to `final_lr`."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def train(job: Job, config: TrainConfig, folder: Path) -> dict[str, float]:
    """Train `job` into `folder`, resuming from its state when there is one; returns the last logged losses.

    Every random draw of step k is seeded by (seed, k), so a run that was killed and resumed gives, on the CPU, the
    same losses to the bit as one that was not.
    """
    accelerator = Accelerator(mixed_precision=config.precision, gradient_accumulation_steps=config.accumulate)
    share, rest = divmod(config.batch_size, accelerator.num_processes * config.accumulate)
    if rest:
        raise ValueError(
            f"batch_size {config.batch_size} does not divide among {accelerator.num_processes} processes "
            f"x {config.accumulate} accumulation rounds"
        )
    folder.mkdir(parents=True, exist_ok=True)
    job.objective.to(accelerator.device)
    trainable = [p for p in job.objective.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay)
    ema = EMA(job.objective, config.ema_decay)
    first = load_state(folder, job.objective, optimizer, ema)
    objective, optimizer = accelerator.prepare(job.objective, optimizer)
    objective.train()
    losses: dict[str, float] = {}
    saved, started = time.monotonic(), time.monotonic()

    def keep(step: int) -> None:
        if accelerator.is_main_process:
            save_state(folder, job.objective, optimizer.optimizer, ema, step)
            draw_curve(folder / LOG, folder / "loss.png")
            if job.preview:
                with ema.in_place():
                    save_preview(job.preview(job.objective.eval()), folder / "preview.png")
                job.objective.train()

    progress = tqdm(range(first, config.steps), initial=first, total=config.steps, disable=None, desc=folder.name)
    for step in progress:
        for group in optimizer.param_groups:
            group["lr"] = config.lr * lr_factor(step, config)
        terms: dict[str, Tensor] = {}
        norm: Tensor | float | None = None
        for round_ in range(config.accumulate):
            set_seed(_seed(config.seed, step, round_, accelerator.process_index))
            part = (step * config.accumulate + round_) * accelerator.num_processes + accelerator.process_index
            batch = {name: value.to(accelerator.device) for name, value in job.batches(part, share).items()}
            with accelerator.accumulate(objective):
                terms = objective(batch)
                accelerator.backward(terms["loss"])
                if accelerator.sync_gradients:
                    norm = accelerator.clip_grad_norm_(trainable, config.clip)
                optimizer.step()
                optimizer.zero_grad()
        ema.update()
        if step % config.log_every == 0 or step == config.steps - 1:
            losses = {name: float(value.detach()) for name, value in terms.items()}
            if not math.isfinite(losses["loss"]):
                raise ValueError(f"the loss became {losses['loss']} at step {step}; lower lr ({config.lr}) or use fp32")
            row = {"step": step, **losses, "grad_norm": float(norm or 0.0), "seconds": time.monotonic() - started}
            if accelerator.is_main_process:
                with (folder / LOG).open("a", encoding="utf-8") as log:
                    log.write(json.dumps(row) + "\n")
            progress.set_postfix({name: f"{value:.4f}" for name, value in losses.items()})
        if time.monotonic() - saved > 60 * config.save_minutes:
            keep(step + 1)
            saved = time.monotonic()
    keep(config.steps)
    if accelerator.is_main_process:
        with ema.in_place():
            job.export(job.objective.eval(), folder)
    accelerator.wait_for_everyone()
    return losses


def _seed(*parts: int) -> int:
    """Mix integers into one 32-bit seed (FNV-1a over their digits)."""
    value = 2166136261
    for byte in ",".join(map(str, parts)).encode():
        value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
    return value
