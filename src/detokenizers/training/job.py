"""What a recipe hands to the loop: an objective, the batch of any step, a preview and an export.

`batches(part, size)` is a pure function. That one rule makes resume exact: no loader position, no sampler state.

Run config -job()-> Job -train()-> run folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn

Pace = Callable[[str], float]
Batches = Callable[[int, int], dict[str, Tensor]]
"""`batches(part, size)`: items part * size to (part + 1) * size of the run, the same whenever and wherever it is called.
Parts of half the size are the same items twice as often, which is how processes and rounds share a batch."""


@dataclass(frozen=True)
class Job:
    """Everything the loop needs and nothing about which paper it serves.

    Attributes:
        objective: `forward(batch) -> dict[str, scalar]`; the entry `loss` is minimised, the others are logged. Random
            draws of an item follow `batch["seeds"]` (see `draws`). A loss that is a mean over items is the same however
            a batch is split; one that is a mean over something rarer, such as known labels, is so on average.
        batches: see `Batches`.
        export: writes what users load (averaged weights are in place while it runs) into the run folder.
        preview: a sheet of images [b 3 h w] in [-1, 1], saved while training; left out when weights are sharded.
        pace: how many times `train.lr` a parameter of the objective learns with, by its name; a run never changes it.
        inputs: fingerprints of what the batches are made from, by name; a run goes on with the same ones only.
        held_out: a batch of items that no step takes; their loss, under averaged weights and with the same draws every
            time, is logged whenever the state is kept. Left out when weights are sharded.
    """

    objective: nn.Module
    batches: Batches
    export: Callable[[nn.Module, Path], None]
    preview: Callable[[nn.Module], Float[Tensor, "b 3 h w"]] | None = None
    pace: Pace = lambda name: 1.0
    held_out: Callable[[], dict[str, Tensor]] | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
