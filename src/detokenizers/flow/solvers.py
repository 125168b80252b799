"""From noise to clean by following a velocity down a grid of times. A solver is a pure function.

noise [b ...], times 1 ... 0 -euler | heun-> clean [b ...]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from ..protocols import VelocityNet

Progress = Callable[[Iterable[int]], Iterable[int]]
"""Wraps the loop over steps, e.g. `tqdm`; one that ends early leaves the rest of the steps out."""

OnStep = Callable[[int, Tensor, Tensor], Tensor]
"""`on_step(number, t, state)` is called after every step that began at time t; sampling goes on from what it returns."""


class Solver(Protocol):
    """What `euler` and `heun` are."""

    def __call__(
        self,
        velocity: VelocityNet,
        noisy: Tensor,
        times: Tensor,
        progress: Progress | None = None,
        on_step: OnStep | None = None,
        /,
    ) -> Tensor: ...


@torch.no_grad()
def euler(
    velocity: VelocityNet,
    noisy: Float[Tensor, "b ..."],
    times: Float[Tensor, "steps+1"],
    progress: Progress | None = None,
    on_step: OnStep | None = None,
) -> Float[Tensor, "b ..."]:
    """One call per step: `x <- x + (t_next - t) v(x, t)`. The state stays in the dtype of `noisy`."""
    for i in (progress or iter)(range(len(times) - 1)):
        now, after = times[i], times[i + 1]
        noisy = noisy + (after - now) * _at(velocity, noisy, now)
        noisy = on_step(i, now, noisy) if on_step else noisy
    return noisy


@torch.no_grad()
def heun(
    velocity: VelocityNet,
    noisy: Float[Tensor, "b ..."],
    times: Float[Tensor, "steps+1"],
    progress: Progress | None = None,
    on_step: OnStep | None = None,
) -> Float[Tensor, "b ..."]:
    """Second order: average the velocities at both ends of a step; two calls each, one for the last step to 0."""
    for i in (progress or iter)(range(len(times) - 1)):
        now, after = times[i], times[i + 1]
        slope = _at(velocity, noisy, now)
        if i < len(times) - 2:
            slope = (slope + _at(velocity, noisy + (after - now) * slope, after)) / 2
        noisy = noisy + (after - now) * slope
        noisy = on_step(i, now, noisy) if on_step else noisy
    return noisy


def _at(velocity: VelocityNet, noisy: Tensor, t: Tensor) -> Tensor:
    return velocity(noisy, t.to(noisy).expand(len(noisy))).to(noisy.dtype)
