"""An exponential moving average of the trainable weights, with a decay that ramps up so that short runs profit too.

weights after each step -update-> shadow ; `with ema.in_place():` the module has the weights of the shadow.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """shadow <- d shadow + (1 - d) weights with d = min(decay, (k + 1) / (k + 20)) at update k.

    A decay of 0 means no average: `shadow` is empty, nothing is copied, the module keeps its own weights.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.weights = {name: p for name, p in module.named_parameters() if p.requires_grad} if decay else {}
        self.shadow = {name: p.detach().clone() for name, p in self.weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        decay = min(self.decay, (self.updates + 1) / (self.updates + 20))
        if self.shadow:
            torch._foreach_lerp_(list(self.shadow.values()), list(self.weights.values()), 1 - decay)
        self.updates += 1

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The module carries the averaged weights inside the block and its own again after it."""
        own = {name: p.detach().clone() for name, p in self.weights.items()}
        self._copy(self.shadow)
        try:
            yield
        finally:
            self._copy(own)

    @torch.no_grad()
    def _copy(self, source: dict[str, Tensor]) -> None:
        for name, weight in self.weights.items():
            weight.copy_(source[name])
