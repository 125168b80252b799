"""Distillation of a many-step flow decoder to one step (SSDD, arXiv 2510.04961): from the same noise and condition, the
student learns to go in one step from t = 1 where its teacher goes in many.

Where the teacher's images are few enough to be kept, they are drawn once: noise follows a seed of the row, so a pair is
the drawn image alone.

noise, condition -teacher, 8 Euler steps-> drawn ; student(noise, 1, condition) -> velocity ~ noise - drawn
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..flow.noise import noise as draw_noise
from ..flow.solvers import euler
from ..seeds import mixed
from .draws import normal_like
from .flow_terms import Outcome, TracedNet, weighted

ROWS, DRAWN = "rows", "drawn"


class Pairs(Protocol):
    """Where the noise comes from, and the teacher's image of it."""

    def __call__(
        self, batch: Mapping[str, Tensor], condition: Float[Tensor, "b k hc wc"], /
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]: ...


class Teacher:
    """New noise at every step, and a frozen net that draws its image: for training sets that are seen a few times.

    Args:
        net: the frozen teacher, `net(noisy, t, condition)`.
        times: of its sampling, 1 ... 0.
        shape: of one item of noise.
    """

    def __init__(self, net: nn.Module, times: Float[Tensor, "steps+1"], shape: tuple[int, ...]) -> None:
        self.net, self.times, self.shape = net, times, shape

    def __call__(self, batch: Mapping[str, Tensor], condition: Tensor) -> tuple[Tensor, Tensor]:
        noise = normal_like(batch, "noise", condition.new_empty(len(condition), *self.shape))
        return noise, self.drawn(noise, condition)

    def of_rows(self, rows: list[int], condition: Tensor) -> Float[Tensor, "b c h w"]:
        """The images that `cached_pair` expects of these rows."""
        return self.drawn(row_noise(rows, self.shape).to(condition), condition)

    @torch.no_grad()
    def drawn(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Where the teacher goes from some noise."""
        return euler(lambda noisy, t: self.net(noisy, t, condition), noise, self.times.to(noise.device))


def cached_pair(batch: Mapping[str, Tensor], condition: Tensor) -> tuple[Tensor, Tensor]:
    """The pair of a batch that carries its `rows` [b] and what the teacher has `drawn` of their noise."""
    drawn = batch[DRAWN].to(condition)
    return row_noise(batch[ROWS].tolist(), tuple(drawn.shape[1:])).to(condition), drawn


def row_noise(rows: list[int], shape: tuple[int, ...]) -> Float[Tensor, "b c h w"]:
    """The noise of numbered rows, the same whenever it is asked for."""
    return draw_noise(shape, [mixed("distillation", row) for row in rows])


class Distillation(nn.Module):
    """The student's objective: all losses of its teacher, with the teacher's image in the place of the true one.

    Only alignment goes on comparing with the true image.

    Args:
        student: the net that learns; a copy of the teacher's.
        condition: of a batch; frozen, no gradient passes.
        pairs: `Teacher` or `cached_pair`.
        terms: losses beside the flow error.
    """

    def __init__(
        self,
        student: nn.Module,
        condition: Callable[[Mapping[str, Tensor]], Tensor],
        pairs: Pairs,
        terms: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.student, self.terms = student, nn.ModuleDict(dict(terms or {}))
        self._condition, self._pairs = condition, pairs

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Batch: `images` [b 3 h w], and what condition and pairs read."""
        with torch.no_grad():
            condition = self._condition(batch)
            noise, drawn = self._pairs(batch, condition)
        student: TracedNet = self.student  # pyright: ignore[reportAssignmentType]
        t = noise.new_ones(len(noise))
        velocity, features = student.traced(noise, t, condition)
        outcome = Outcome(drawn, noise, noise, t, velocity, features, batch["images"])
        return weighted(outcome, dict(self.terms.items()))
