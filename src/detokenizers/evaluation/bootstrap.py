"""Intervals of a number: resample the images with replacement and take the spread of the number.

Two calls with the same N and seed draw the same resamples, so the difference of two decoders on the same images is
paired simply by subtracting, resample by resample. What is resampled are images only: a retrained network is another
matter.

values per image [n] -resamples-> statistic of each [r] -quantiles-> Interval(low, high).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.stats import binomtest
from torch import Tensor

from .frechet import distance_to, factored_distance, gaussian_distance, root
from .moments import Moments

LEVEL = 0.95
Statistic = Callable[[NDArray[np.intp]], float]
"""A number computed from the items with these indices (some repeated)."""


class Interval(NamedTuple):
    low: float
    high: float


def indices(n: int, num_resamples: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """The resamples themselves: a pure function of (n, seed), whatever is measured on them."""
    if n < 2:
        raise ValueError(f"an interval over images needs at least two of them, got {n}")
    generator = np.random.default_rng([seed, n])
    for _ in range(num_resamples):
        yield generator.integers(n, size=n)


def interval(
    values: Float[Tensor, "n"] | NDArray[np.floating], *, num_resamples: int = 1000, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of the mean of one value per image; subtract two columns first for a paired one."""
    column = np.asarray(values, dtype=np.float64)
    return percentiles([column[rows].mean() for rows in indices(len(column), num_resamples, seed)])


def interval_of(statistic: Statistic, n: int, *, num_resamples: int = 1000, seed: int = 0) -> Interval:
    """Percentile bootstrap interval of any statistic over `n` items, a ratio of means for instance."""
    return percentiles([statistic(rows) for rows in indices(n, num_resamples, seed)])


def frechet_resamples(
    drawn: Float[Tensor, "n f"], real: Float[Tensor, "n f"] | Moments, *, num_resamples: int = 200, seed: int = 0
) -> Float[Tensor, "r"]:
    """Fréchet distances with the images drawn again and again from stored features.

    Given the originals' features, image by image, pairs are resampled together; given moments, that side stays put.
    Equal (n, seed) means equal resamples: subtract two results for a paired difference of decoders.
    """
    if not isinstance(real, Moments) and len(real) != len(drawn):
        raise ValueError(
            f"{len(drawn)} images cannot be paired with {len(real)} originals; pass the originals' moments"
        )
    n, width = drawn.shape
    wide = n < width  # then the products of pictures are a smaller matrix than a covariance

    def side(features: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        mean, rows = weighted(features, counts)
        return mean, rows[counts > 0] if wide else rows.T @ rows

    if isinstance(real, Moments):
        if real.mean is None:
            raise ValueError("the reference moments hold no image")
        between, fixed = factored_distance if wide else distance_to, (real.mean, root(real.covariance()))
        distance = lambda counts: between(*fixed, *side(drawn, counts))  # noqa: E731
    else:
        between = factored_distance if wide else gaussian_distance
        distance = lambda counts: between(*side(real, counts), *side(drawn, counts))  # noqa: E731
    counts = (torch.from_numpy(np.bincount(rows, minlength=n)) for rows in indices(n, num_resamples, seed))
    return torch.stack([distance(count) for count in counts])


def centred(resamples: Float[Tensor, "r"], value: float) -> Interval:
    """The resamples' spread around the measured value.

    A resample holds only ~63 % of the images, and a Fréchet distance grows as N shrinks: plain percentiles would sit
    above the value they are meant to surround, so their mean is moved onto it.
    """
    return percentiles((resamples - resamples.mean() + value).tolist())


def wilson(successes: int, n: int) -> Interval:
    """Wilson's score interval of a share: honest at 0 %, at 100 % and at small n."""
    low, high = binomtest(successes, n).proportion_ci(LEVEL, method="wilson")
    return Interval(float(low), float(high))


def percentiles(resamples: list[float]) -> Interval:
    """The middle `LEVEL` of the resampled values."""
    low, high = np.quantile(resamples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def weighted(features: Float[Tensor, "n f"], counts: Int[Tensor, "n"]) -> tuple[Tensor, Tensor]:
    """Mean of rows taken `counts` times each, and their deviations R, of which R^T R is the sample covariance."""
    features, weights = features.detach().cpu().double(), counts.double()[:, None]
    mean = (features * weights).sum(0) / len(features)
    return mean, (features - mean) * (weights / (len(features) - 1)).sqrt()
