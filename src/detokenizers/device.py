"""Which device this process computes on, and which of several processes it is.

`torchrun` and `accelerate launch` start the same program several times and set RANK, WORLD_SIZE and LOCAL_RANK; a
program that was started alone is the first of one.

name -device_of-> torch.device
"""

from __future__ import annotations

import os

import torch


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process is the one that writes and prints; so is one that was started alone."""
    return rank() == 0


def device_of(name: str) -> torch.device:
    """`auto` is CUDA if there is any, the process's own GPU where there are several processes.

    Raises:
        ValueError: there is no such device here.
    """
    if name in ("auto", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    if name == "auto":
        return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise ValueError(f"there is no device {name!r} here; --device takes auto, cpu or cuda") from None
    return device
