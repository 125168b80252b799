"""How to train: lengths, speeds and care, as every run.yaml records them.

step -lr_factor-> the share of `lr` it is taken with
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from ..config import Config


class TrainConfig(Config):
    """How long, how fast and how carefully to train. Field defaults suit the embedded stack on two CPU cores."""

    steps: int = Field(default=1000, ge=0)
    batch_size: int = Field(default=32, ge=1)
    """Items per optimiser step over all processes and accumulation rounds."""
    lr: float = Field(default=1e-3, gt=0)
    warmup: int = Field(default=100, ge=0)
    final_lr: float = Field(default=0.05, ge=0)
    """The cosine schedule ends at this fraction of `lr`; 1 keeps it constant."""
    weight_decay: float = Field(default=0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient."""
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    """Of the averaged weights, which are what is exported; 0 keeps no average."""
    accumulate: int = Field(default=1, ge=1)
    """Rounds that one optimiser step is spread over, to need less memory."""
    workers: int = Field(default=0, ge=0)
    """Processes that make batches ahead of time, so that an accelerator does not wait for scenes to be rendered."""
    checkpointing: bool = False
    """Compute activations a second time in the backward pass, to need less memory; a third more arithmetic, or more."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """`no` (fp32), `bf16` or `fp16`, as accelerate names them. A resumed fp16 run starts with a new loss scale."""
    seed: int = 0
    """Of the first weights and of every draw while training."""
    log_every: int = Field(default=20, ge=1)
    save_minutes: float = Field(default=3.0, ge=0)
    """Minutes between checkpoints, which come after a logged step; each also draws the loss curve and a preview."""
    track: str | None = None
    """Also report to a tracker that accelerate knows, such as `trackio`, `tensorboard` or `wandb`."""

    def share(self, processes: int) -> int:
        """Items that one process sees in one accumulation round.

        Raises:
            ValueError: the batch does not divide.
        """
        share, rest = divmod(self.batch_size, processes * self.accumulate)
        if rest:
            raise ValueError(
                f"batch_size {self.batch_size} does not divide among {processes} processes "
                f"x {self.accumulate} accumulation rounds"
            )
        return share


def lr_factor(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then a half cosine from 1 to `final_lr`."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
