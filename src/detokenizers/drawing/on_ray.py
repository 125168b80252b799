"""The same units drawn by the workers of Ray, for machines that come and go and pools of unequal speed: whoever is free
takes the next unit, and one that was lost is taken again, which draws only what is missing of it.

All machines must see the output folder. Driver and workers each load what is named; objects are copied to the workers.

numbers of units -map_batches over actors-> each: build the work once, draw -> the driver checks that all is there
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

from ..device import world_size
from .sharing import Work

SPARE = 2
"""CPUs of a local Ray beside those of its workers; what hands out units needs some, and without any all would wait."""


class Worker:
    """An actor: builds the work when it starts, and draws the units that it is given."""

    def __init__(self, build: Callable[..., Work], arguments: tuple[Any, ...]) -> None:
        self.work = build(*arguments)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        for unit in batch["id"]:
            self.work.draw(int(unit), lambda count: None)
        return batch


def drawn_on_ray(work: Work, build: Callable[..., Work], arguments: tuple[Any, ...], workers: int) -> bool:
    """Draw all units by so many workers, on the cluster of RAY_ADDRESS or on this machine.

    Args:
        build: makes the same work in a worker, from these arguments.

    Raises:
        ValueError: Ray is not installed, or a worker's own error.
    """
    try:
        ray, data = import_module("ray"), import_module("ray.data")
    except ImportError:
        raise ValueError("--ray needs Ray; `pip install 'detokenizers[ray]'`") from None
    if world_size() > 1:
        raise ValueError("--ray starts its own workers; start the command once, without torchrun")
    if not ray.is_initialized():
        local = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers + SPARE, "include_dashboard": False}
        ray.init(logging_level="error", log_to_driver=False, **local)
    data.DataContext.get_current().enable_progress_bars = False
    number = len(work.sizes)
    units = data.range(number, override_num_blocks=min(number, 16 * workers)).map_batches(
        Worker,
        fn_constructor_args=(build, arguments),
        batch_size=1,
        concurrency=workers,
        num_gpus=1 if ray.cluster_resources().get("GPU") else 0,
    )
    try:
        units.materialize()
    except ray.exceptions.RayError as error:
        raise ValueError(_cause(error)) from None
    if missing := [unit for unit in range(number) if not work.done(unit)]:
        raise ValueError(f"{len(missing)} of {number} parts are not there; do all machines see the output folder?")
    return True


def _cause(error: BaseException) -> str:
    """A worker's own error, behind those that Ray wraps it in."""
    while inner := getattr(error, "cause", None) or error.__cause__:
        error = inner
    return str(error)
