"""What every benchmark says besides its numbers: on what, in which precision, how often timed, and what the hardware
could have done at best. Limits are measured here and now, because a datasheet is not the card in this machine.

runs -taking turns-> medians ; a large copy -> bytes/s ; a large matrix product -> FLOP/s ; all of it -> one JSON row
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import version

import torch

WARM_UP = 2
"""Rounds before the first that counts."""


class Marks:
    """Moments on a device's own clock; setting one never waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self.moments: list[torch.cuda.Event | float] = []
        self.worked: list[float] = []
        """Seconds this thread had computed by then; what it waited for others on the machine is not in them."""

    def mark(self, *_: object) -> None:
        if self.on_gpu:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.moments.append(event)
        else:
            self.moments.append(time.perf_counter())
        self.worked.append(time.thread_time())

    def milliseconds(self) -> list[float]:
        """From each mark to the next."""
        if self.on_gpu:
            torch.cuda.synchronize()
        pairs = zip(self.moments, self.moments[1:])
        return [a.elapsed_time(b) if isinstance(a, torch.cuda.Event) else 1e3 * (b - a) for a, b in pairs]  # pyright: ignore


def taking_turns(
    runs: Mapping[str, Callable[[], object]], device: torch.device, repeats: int, warm_up: int = WARM_UP
) -> dict[str, tuple[float, float]]:
    """Median milliseconds of each run, by the device's clock and by this thread, after the warm-up rounds.

    Runs take turns, so that other work on the machine slows all of them alike.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for round_ in range(repeats + warm_up):
        for name, run in runs.items():
            marks, thread = Marks(device), time.thread_time()
            marks.mark()
            run()
            marks.mark()
            wall = marks.milliseconds()[0]
            if round_ >= warm_up:
                times[name].append((wall, 1e3 * (time.thread_time() - thread)))
    return {name: tuple(statistics.median(each) for each in zip(*found)) for name, found in times.items()}


@cache
def copy_rate(device: torch.device) -> float:
    """Bytes read plus bytes written a second, by a copy far larger than any cache."""
    size = 2**31 if device.type == "cuda" else 2**26
    source = torch.empty(size // 4, device=device).uniform_()
    target = torch.empty_like(source)
    return 2 * size / (1e-3 * taking_turns({"copy": lambda: target.copy_(source)}, device, 10)["copy"][0])


@cache
def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP a second of a large square matrix product on random numbers."""
    side = 8192 if device.type == "cuda" else 512
    a, b = (torch.randn(side, side, device=device, dtype=torch.float32).to(dtype) for _ in range(2))
    return 2 * side**3 / (1e-3 * taking_turns({"product": lambda: a @ b}, device, 10)["product"][0])


def peak_gib(device: torch.device) -> float | None:
    """Most device memory held since the start or the last reset; unknown on a CPU."""
    return round(torch.cuda.max_memory_allocated(device) / 2**30, 2) if device.type == "cuda" else None


def setting(
    benchmark: str,
    device: torch.device,
    dtype: torch.dtype,
    *,
    batch: int,
    resolution: int | None,
    compiled: str = "no",
    repeats: int,
    warm_up: int = WARM_UP,
    packages: Sequence[str] = ("torch",),
) -> dict[str, object]:
    """The first half of a row."""
    return {
        "benchmark": benchmark,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "dtype": str(dtype).removeprefix("torch."),
        "batch": batch,
        "resolution": resolution,
        "compile": compiled,
        "warm_up": warm_up,
        "repeats": repeats,
        "versions": {name: version(name) for name in packages},
    }


def limits(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """What this device copies and multiplies at best."""
    return {
        "copy_gb_per_s": round(copy_rate(device) / 1e9, 1),
        "matmul_tflop_per_s": round(matmul_rate(device, dtype) / 1e12, 3),
    }


def report(*parts: Mapping[str, object]) -> None:
    """One JSON row on stdout."""
    print(json.dumps({key: value for part in parts for key, value in part.items()}), flush=True)
