"""The device that a setting names."""

from __future__ import annotations

import torch


def device_of(name: str) -> torch.device:
    """`auto` is CUDA if there is any; a device that is not there is an error."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise ValueError(f"there is no device {name!r} here; --device takes auto, cpu or cuda") from None
    return device
