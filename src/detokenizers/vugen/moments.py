"""Means and covariances of tokens, added up in fp64 batch by batch, however many there are.

tokens [m c], targets [m q] -add-> Moments -> mean, covariance, cross-covariance ; Moments + Moments = those of both
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass
class Moments:
    """Population moments of what was added so far; `cross` is with the targets, if any came along."""

    count: int
    mean: Float[Tensor, "c"]
    scatter: Float[Tensor, "c c"]
    target_mean: Float[Tensor, "q"]
    cross_scatter: Float[Tensor, "c q"]

    @classmethod
    def of(cls, x: Float[Tensor, "... c"], y: Float[Tensor, "... q"] | None = None) -> Self:
        """The moments of one batch of tokens."""
        x = x.flatten(0, -2).double().cpu()
        y = x[:, :0] if y is None else y.flatten(0, -2).double().cpu()
        mean, target_mean = x.mean(0), y.mean(0)
        x, y = x - mean, y - target_mean
        return cls(len(x), mean, x.T @ x, target_mean, x.T @ y)

    def __add__(self, other: Self) -> Self:
        """The moments of both (Chan et al. 1979): nothing is subtracted that is large beside the result."""
        count = self.count + other.count
        share, apart = other.count / count, other.mean - self.mean
        target_apart = other.target_mean - self.target_mean
        return type(self)(
            count,
            self.mean + share * apart,
            self.scatter + other.scatter + self.count * share * torch.outer(apart, apart),
            self.target_mean + share * target_apart,
            self.cross_scatter + other.cross_scatter + self.count * share * torch.outer(apart, target_apart),
        )

    @property
    def covariance(self) -> Float[Tensor, "c c"]:
        return self.scatter / self.count

    @property
    def cross(self) -> Float[Tensor, "c q"]:
        return self.cross_scatter / self.count

    @property
    def variance(self) -> Float[Tensor, "c"]:
        return self.covariance.diagonal()

    def directions(self, floor: float = 0.0) -> tuple[Float[Tensor, "c"], Float[Tensor, "c c"]]:
        """Variances and directions (rows) of the principal axes, largest first; `floor` of the largest is added.

        Raises:
            ValueError: all tokens are equal.
        """
        variances, columns = torch.linalg.eigh(self.covariance)
        variances, rows = variances.flip(0).clamp(min=0), columns.T.flip(0)
        if not variances[0] > 0:
            raise ValueError("all features are equal, so they have no directions; is the vision tower damaged?")
        return variances + floor * variances[0], rows
