"""How to train: lengths, speeds and care, as every run.yaml records them.

step -lr_factor-> the share of `lr` it is taken with
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from ..config import Config
from .optimizers import AdamW, OptimizerConfig
from .schedules import Cosine, Schedule


class TrainConfig(Config):
    """How long, how fast and how carefully to train. Field defaults suit the embedded stack on two CPU cores."""

    steps: int = Field(default=1000, ge=0)
    batch_size: int = Field(default=32, ge=1)
    """Items per optimiser step over all processes and accumulation rounds."""
    lr: float = Field(default=1e-3, gt=0)
    warmup: int = Field(default=100, ge=0)
    """Steps in which the rate rises to its peak in a line."""
    schedule: Schedule = Cosine()
    """What the rate does after the warm-up."""
    optimizer: OptimizerConfig = AdamW()
    weight_decay: float = Field(default=0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient."""
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    """Of the averaged weights, which are what is exported; 0 keeps no average."""
    accumulate: int = Field(default=1, ge=1)
    """Rounds that one optimiser step is spread over, to need less memory."""
    workers: int = Field(default=0, ge=0)
    """Processes that read pictures and make batches ahead of time, so that an accelerator does not wait for files to be
    decoded or scenes to be rendered; so many for each process that trains."""
    checkpointing: bool = False
    """Compute activations a second time in the backward pass, to need less memory; a third more arithmetic, or more."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """`no` (fp32), `bf16` or `fp16`, as accelerate names them. A resumed fp16 run starts with a new loss scale."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of the first weights and of every draw while training."""
    log_every: int = Field(default=20, ge=1)
    save_minutes: float = Field(default=3.0, ge=0)
    """Minutes between checkpoints, which come after a logged step; each also draws the loss curve and a preview. More
    where that takes long: at least twenty times the seconds the last one took (thirty gigabytes need no copy every
    three minutes). 0 keeps every logged step, whatever it takes."""
    track: str | None = None
    """Also report to a tracker that accelerate knows, such as `trackio`, `tensorboard` or `wandb`."""

    @model_validator(mode="before")
    @classmethod
    def _read_older_settings(cls, data: Any) -> Any:
        """A run.yaml of before schedules were parts has `final_lr`, where a cosine ends."""
        if isinstance(data, dict) and "final_lr" in data:
            data = {**data, "schedule": {"kind": "cosine", "final": data["final_lr"]}}
            del data["final_lr"]
        return data

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
    """The share of its peak rate that a step is taken with: linear warm-up, then the schedule."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    return config.schedule(min(1.0, (step - config.warmup) / max(1, config.steps - config.warmup)))
