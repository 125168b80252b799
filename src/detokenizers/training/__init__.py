"""The training floor: one accelerate loop, an EMA, and a state file that brings back every bit after a kill -9."""

from .ema import EMA
from .job import Batches, Job
from .loop import train
from .run import CachedRun, Run
from .train_settings import TrainConfig

__all__ = ["EMA", "Batches", "CachedRun", "Job", "Run", "TrainConfig", "train"]
