"""What a recipe hands to the loop: an objective, the batch of any step, and how to look at and keep the result.

`batch(step)` is a pure function of the step. That one rule makes resume exact: no loader position, no sampler state.

Run config -job()-> Job -train()-> run folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn

Batches = Callable[[int, int], dict[str, Tensor]]
"""`batches(step, size)`: the `size` items of that step, the same whenever and wherever it is asked."""


@dataclass(frozen=True)
class Job:
    """Everything the loop needs and nothing about which paper it serves.

    Attributes:
        objective: `forward(batch) -> dict[str, scalar]`; the entry `loss` is minimised, the others are logged.
        batches: see `Batches`.
        export: writes what users load (averaged weights are in place while it runs) into the run folder.
        preview: a sheet of images [b 3 h w] in [-1, 1] to look at while training.
    """

    objective: nn.Module
    batches: Batches
    export: Callable[[nn.Module, Path], None]
    preview: Callable[[nn.Module], Float[Tensor, "b 3 h w"]] | None = None
