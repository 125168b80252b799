"""From noise to clean by following the net's velocity down a grid of times. A solver is a pure function.

noise [b ...], times 1 ... 0 -euler | heun-> clean [b ...]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from ..protocols import VelocityNet

Progress = Callable[[Iterable[int]], Iterable[int]]
"""Wraps the loop over steps, e.g. `tqdm`."""

Solver = Callable[[VelocityNet, Tensor, Tensor, Tensor, Progress | None], Tensor]


@torch.no_grad()
def euler(
    net: VelocityNet,
    noisy: Float[Tensor, "b ..."],
    times: Float[Tensor, "steps+1"],
    condition: Tensor,
    progress: Progress | None = None,
) -> Float[Tensor, "b ..."]:
    """One net call per step: `x <- x + (t_next - t) net(x, t)`. The state stays in the dtype of `noisy`."""
    for i in (progress or iter)(range(len(times) - 1)):
        now, after = times[i], times[i + 1]
        noisy = noisy + (after - now) * _velocity(net, noisy, now, condition)
    return noisy


@torch.no_grad()
def heun(
    net: VelocityNet,
    noisy: Float[Tensor, "b ..."],
    times: Float[Tensor, "steps+1"],
    condition: Tensor,
    progress: Progress | None = None,
) -> Float[Tensor, "b ..."]:
    """Second order: average the velocities at both ends of a step; two net calls each, one for the last step to 0."""
    for i in (progress or iter)(range(len(times) - 1)):
        now, after = times[i], times[i + 1]
        slope = _velocity(net, noisy, now, condition)
        if i < len(times) - 2:
            ahead = _velocity(net, noisy + (after - now) * slope, after, condition)
            slope = (slope + ahead) / 2
        noisy = noisy + (after - now) * slope
    return noisy


def _velocity(net: VelocityNet, noisy: Tensor, t: Tensor, condition: Tensor) -> Tensor:
    return net(noisy, t.to(noisy).expand(len(noisy)), condition).to(noisy.dtype)
