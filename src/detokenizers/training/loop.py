"""The one training loop: accelerate for devices, processes and precision; everything else is visible here.

batches(step) -> objective -> loss -> optimisers (warm-up, schedule, clip) -> EMA ; every few minutes: state, curve,
preview, and the loss of items that no step takes.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from tqdm import tqdm

from ..ahead import ahead
from ..seeds import item_seeds, mixed
from .draws import SEEDS
from .ema import EMA
from .job import Job
from .optimizers import trainable
from .processes import gathered, is_sharded, mean, prepare_for_shards, start, whole
from .report import CURVE, HELD_OUT, LOG, PREVIEW, Log, draw_curve, save_preview
from .state import has_state, load_state, remove_leftovers, save_state
from .train_settings import TrainConfig, lr_factor

SAVING_IS_ONE_IN = 20


def train(job: Job, config: TrainConfig, folder: Path) -> dict[str, float]:
    """Train `job` into `folder`, resuming from its state when there is one; returns the last logged losses.

    Every random draw of step k is seeded by (seed, k), so a run that was killed and resumed gives, on the CPU, the
    same losses to the bit as one that was not. An item's own draws do not depend on how its batch is split into
    processes and accumulation rounds, so these change the weights by rounding only.

    Raises:
        ValueError: the batch does not divide, the state in `folder` is another model's or further on, or the loss or
            its gradient is not finite; the last good state is still there then.
    """
    accelerator = start(config, str(folder))
    share, main = config.share(accelerator.num_processes), accelerator.is_main_process
    folder.mkdir(parents=True, exist_ok=True)
    if config.checkpointing:
        recompute_activations(job.objective)
    optimizers = config.optimizer.build(job.objective, job.pace, config)
    if accelerator.is_fsdp2:
        prepare_for_shards(job.objective, accelerator)
    objective, *prepared = accelerator.prepare(job.objective, *optimizers)
    # Under FSDP2 the weights are others now; whatever points at them comes after this line.
    optimizers = [each.optimizer for each in prepared]
    weights, ema = list(trainable(job.objective).values()), EMA(job.objective, config.ema_decay)
    first = load_state(folder, job.objective, optimizers, ema)
    if first > config.steps:
        raise ValueError(f"{folder} has been trained for {first} steps already; train.steps is {config.steps}")
    accelerator.wait_for_everyone()
    if main:
        remove_leftovers(folder)
    log = Log(folder, first) if main else None
    if config.track:
        accelerator.init_trackers("detokenizers", config={"run": folder.name, **config.model_dump(mode="json")})
    objective.train()
    losses: dict[str, float] = {}
    saved, took = time.monotonic(), 0.0

    def keep(step: int) -> None:
        if main and job.preview and not is_sharded(job.objective):
            with ema.in_place():
                try:  # before the state, so that weights which cannot draw any more do not replace those which can
                    save_preview(job.preview(job.objective.eval()), folder / PREVIEW)
                except ValueError as error:
                    raise _diverged(f"nothing can be drawn after step {step} ({error})", config, folder) from None
            job.objective.train()
        save_state(folder, job.objective, optimizers, ema, step)
        if main:
            draw_curve(folder / LOG, folder / CURVE)

    progress = tqdm(
        range(first, config.steps),
        initial=first,
        total=config.steps,
        disable=None if main else True,
        desc=folder.name,
    )
    rounds, processes = config.accumulate, accelerator.num_processes
    parts = range(first * rounds * processes + accelerator.process_index, config.steps * rounds * processes, processes)
    with ahead(lambda part: job.batches(part, share), parts, config.workers) as made:
        for step in progress:
            for group in (group for optimizer in optimizers for group in optimizer.param_groups):
                group["lr"] = group["peak"] * lr_factor(step, config)
            sums: dict[str, Tensor] = {}
            norm: Tensor | None = None
            for round_ in range(rounds):
                set_seed(mixed(config.seed, step, round_, accelerator.process_index))
                part = parts[(step - first) * rounds + round_]
                batch = {name: value.to(accelerator.device) for name, value in next(made).items()}
                batch[SEEDS] = item_seeds(config.seed, part * share, share)
                with accelerator.accumulate(objective):
                    terms = objective(batch)
                    accelerator.backward(terms["loss"])
                    if accelerator.sync_gradients:
                        norm = accelerator.clip_grad_norm_(weights, config.clip)
                    for optimizer in prepared:
                        optimizer.step()
                        optimizer.zero_grad()
                for name, value in terms.items():
                    sums[name] = sums.get(name, 0.0) + value.detach().float() / rounds
            ema.update()
            if step % config.log_every == 0 or step == config.steps - 1:
                losses = {name: float(mean(accelerator, value)) for name, value in sums.items()}
                assert norm is not None
                row = {"step": step, **losses, "grad_norm": float(whole(norm))}
                _check(row, config, folder)
                last = step == config.steps - 1
                began = time.monotonic()
                due = last or _agreed(accelerator, began - saved >= seconds_between_saves(config, took))
                if due and main and job.held_out and not is_sharded(job.objective):
                    with ema.in_place():
                        row[HELD_OUT] = _held_out(job, accelerator.device)
                        _check(row, config, folder)
                if log:
                    log.write(row)
                accelerator.log(row, step=step)
                progress.set_postfix({name: f"{value:.4f}" for name, value in losses.items()})
                if due and not last:
                    keep(step + 1)
                    saved = time.monotonic()
                    took = saved - began
    if first < config.steps or first == 0:
        keep(config.steps)
    with ema.in_place(), gathered(job.objective, keep=main):
        if main:
            job.export(job.objective.eval(), folder)
    for tracker in accelerator.trackers:
        tracker.finish()
    accelerator.wait_for_everyone()
    return losses


@torch.no_grad()
def _held_out(job: Job, device: torch.device) -> float:
    """The loss of items that no step takes, each with the same draws every time."""
    assert job.held_out is not None
    batch = {name: value.to(device) for name, value in job.held_out().items()}
    batch[SEEDS] = item_seeds(0, 0, len(next(iter(batch.values()))))
    loss = float(job.objective.eval()(batch)["loss"])
    job.objective.train()
    return loss


def recompute_activations(objective: nn.Module) -> None:
    """Turn on gradient checkpointing in every diffusers and transformers model that learns."""
    found = False
    for module in objective.modules():
        able = getattr(module, "_supports_gradient_checkpointing", False)
        able = able or getattr(module, "supports_gradient_checkpointing", False)
        if able and trainable(module):
            found = True
            for switch in ("enable_gradient_checkpointing", "gradient_checkpointing_enable"):
                getattr(module, switch, lambda: None)()
    if not found:
        raise ValueError(f"{type(objective).__name__} holds no model that can recompute; set train.checkpointing to no")


def seconds_between_saves(config: TrainConfig, took: float) -> float:
    """From the end of one save, which took so many seconds, to the next: saving is a twentieth of a run at most."""
    return max(60 * config.save_minutes, SAVING_IS_ONE_IN * took) if config.save_minutes else 0.0


def _agreed(accelerator: Accelerator, due: bool) -> bool:
    """Whether it is due in the first process: clocks differ, and shards are gathered by all or none."""
    first = torch.tensor(float(due and accelerator.is_main_process), device=accelerator.device)
    return bool(mean(accelerator, first) > 0)


def _check(row: dict[str, float], config: TrainConfig, folder: Path) -> None:
    names = {"loss", HELD_OUT} | ({"grad_norm"} if config.precision != "fp16" else set())  # a loss scale overflows
    for name, value in row.items():
        if name in names and not math.isfinite(value):
            raise _diverged(f"the {name.replace('_', ' ')} became {value} at step {row['step']}", config, folder)


def _diverged(what: str, config: TrainConfig, folder: Path) -> ValueError:
    kept = has_state(folder)
    where = f"into a new folder; {folder} keeps its last good state" if kept else "into the same folder"
    return ValueError(f"{what}; train with a lower train.lr (it is {config.lr}) or in fp32, {where}")
