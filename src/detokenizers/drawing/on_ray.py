"""The same units drawn by the workers of Ray, for machines that come and go and pools of unequal speed: whoever is free
takes the next unit, and one that was lost is taken again, which draws only what is missing of it.

All machines must see the output folder. Driver and workers each load what is named; objects are copied to the workers.

numbers of open units -map_batches over actors-> each: build the work once, draw -> the driver checks that all is there
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
    """An actor: builds the work when it gets its first unit, draws its units, and hands back the lines of errors."""

    def __init__(self, build: Callable[..., Work], arguments: tuple[Any, ...]) -> None:
        self.build, self.arguments = build, arguments
        self.work: Work | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"error": [self.draw(int(unit)) for unit in batch["unit"]]}

    def draw(self, unit: int) -> str:
        try:
            self.work = self.work or self.build(*self.arguments)
            self.work.draw(unit, lambda count: None)
        except ValueError as error:  # Ray would hand over a page that names its own functions
            return str(error)
        return ""


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
    left = [unit for unit in range(len(work.sizes)) if not work.done(unit)]
    if not left:
        return True
    if not ray.is_initialized():
        local = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers + SPARE, "include_dashboard": False}
        ray.init(logging_level="error", log_to_driver=False, **local)
    data.DataContext.get_current().enable_progress_bars = False
    units = data.from_items([{"unit": unit} for unit in left], override_num_blocks=min(len(left), 16 * workers))
    drawn = units.map_batches(
        Worker,
        fn_constructor_args=(build, arguments),
        batch_size=1,
        concurrency=workers,
        num_gpus=1 if ray.cluster_resources().get("GPU") else 0,
    )
    for row in drawn.iter_rows():
        if row["error"]:
            raise ValueError(row["error"])
    if missing := [unit for unit in left if not work.done(unit)]:
        raise ValueError(f"{len(missing)} of {len(left)} parts are not there; do all machines see the output folder?")
    return True
