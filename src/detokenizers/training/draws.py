"""Random numbers that belong to an item: its noise, its time, whether its caption is dropped. What an item draws
depends on the run's seed and its position among all items, never on how a batch is split into processes and rounds.

(seed, position) -item_seeds-> batch["seeds"] [b] ; (batch, purpose) -per_item-> one independent draw per item [b ...]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..seeds import mixed

SEEDS = "seeds"


def per_item(batch: Mapping[str, Tensor], purpose: str, draw: Callable[[Generator], Tensor]) -> Tensor:
    """Stack one draw per item, each from a generator of its own, on the CPU.

    Args:
        batch: its `seeds` [b] decide; without them the draws follow torch's default generator.
        purpose: draws for different purposes are independent.
        draw: called once per item.
    """
    size = len(next(iter(batch.values())))
    seeds = batch[SEEDS] if SEEDS in batch else torch.randint(2**31, (size,))
    return torch.stack([draw(Generator().manual_seed(mixed(purpose, seed))) for seed in seeds.tolist()])


def normal_like(batch: Mapping[str, Tensor], purpose: str, items: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
    """Unit normal noise shaped like `items`."""
    drawn = per_item(batch, purpose, lambda generator: torch.randn(items.shape[1:], generator=generator))
    return drawn.to(items.device, items.dtype)


def uniform(batch: Mapping[str, Tensor], purpose: str, *shape: int) -> Float[Tensor, "b ..."]:
    """Numbers in [0, 1), `shape` of them per item, on the batch's device."""
    drawn = per_item(batch, purpose, lambda generator: torch.rand(shape, generator=generator))
    return drawn.to(next(value for name, value in batch.items() if name != SEEDS).device)
