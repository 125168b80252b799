"""What is reported with a number: its interval, its direction, its N, and how it was made.

values per image -mean_of-> {"value", "low", "high", ...}; provenance() -> versions, device, precision switches.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from .bootstrap import Interval, interval

Result = dict[str, Any]


class Metric(NamedTuple):
    """How a number is written: its label in tables, its unit and which direction is good."""

    label: str
    better: str
    """`higher`, `lower`, or `one` where the truth's own value is 1."""
    unit: str = ""


def measured(metric: Metric, value: float | None, bounds: Interval | None = None, **more: Any) -> Result:
    """One number as JSON."""
    low, high = bounds or (None, None)
    return {**metric._asdict(), "value": value, "low": low, "high": high, **more}


def mean_of(metric: Metric, values: Float[Tensor, "n"], num_resamples: int, seed: int) -> Result:
    """The mean over images with its bootstrap interval.

    Identical images have an infinite PSNR: they are left out of the mean and counted under `excluded`.
    """
    finite = values[values.isfinite()]
    excluded: Result = {"excluded": len(values) - len(finite)} if len(finite) < len(values) else {}
    if len(finite) < 2:
        return measured(metric, None, **excluded)
    bounds = interval(finite, num_resamples=num_resamples, seed=seed)
    return measured(metric, finite.mean().item(), bounds, **excluded)


def verdict(difference: Result) -> str | None:
    """What the interval of a paired difference allows: better, worse, or no difference; None without an interval."""
    low, high = difference["low"], difference["high"]
    if low is None or high is None:
        return None
    if low <= 0 <= high:
        return "no difference"
    if difference["better"] == "one":
        return "more" if low > 0 else "less"
    return "better" if (low > 0) == (difference["better"] == "higher") else "worse"


def provenance(device: torch.device | str, settings: Mapping[str, Any]) -> Result:
    """Everything outside the images that a number depends on."""
    packages = ("detokenizers", "torch", "numpy", "scipy", "pillow")
    return {
        "settings": dict(settings),
        "device": str(device),
        "tf32": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
    }
