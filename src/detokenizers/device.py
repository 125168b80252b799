"""Which device this process computes on, and which of several processes it is.

`torchrun` and `accelerate launch` start the same program several times and set RANK, WORLD_SIZE and LOCAL_RANK; a
program that was started alone is the first of one.

name -device_of-> torch.device
"""

from __future__ import annotations

import os

import torch


def rank() -> int:
    return _place()[0]


def world_size() -> int:
    return _place()[1]


def _place() -> tuple[int, int]:
    """Which process this is, and of how many.

    Raises:
        ValueError: the environment holds no such numbers, and this process would do another's work, or nobody's.
    """
    texts = os.environ.get("RANK") or "0", os.environ.get("WORLD_SIZE") or "1"
    number, count = (int(text) if text.isdecimal() else -1 for text in texts)
    if not 0 <= number < count:
        raise ValueError(
            f"RANK is {texts[0]!r} and WORLD_SIZE {texts[1]!r}, but processes count from 0 to WORLD_SIZE - 1; "
            "set both, as torchrun does, or neither"
        )
    return number, count


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
