"""The distance of two sets of images, each taken as a Gaussian of features: |m - m'|^2 + tr(C + C' - 2 (C C')^1/2).

It is named after its extractor, `FD-world` for the embedded WorldNet, and never "FID": that name belongs to one network
(TF-Inception) at one protocol and one N. Its value falls with N, so distances at different N do not compare.

Moments of real, Moments of drawn -float64 eigenvalues-> one number.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from .moments import Moments, same_extractor


def frechet(a: Moments, b: Moments) -> float:
    """The Fréchet distance (Dowson & Landau, 1982) in squared feature units, float64."""
    same_extractor(a, b)
    if a.mean is None or b.mean is None:
        raise ValueError("a Fréchet distance needs images on both sides, and one side has none")
    return gaussian_distance(a.mean, a.covariance(), b.mean, b.covariance()).item()


def gaussian_distance(
    mean_a: Float[Tensor, "f"], cov_a: Float[Tensor, "f f"], mean_b: Float[Tensor, "f"], cov_b: Float[Tensor, "f f"]
) -> Float[Tensor, ""]:
    return distance_to(mean_a, root(cov_a), mean_b, cov_b)


def distance_to(
    mean_a: Float[Tensor, "f"], root_a: Float[Tensor, "f f"], mean_b: Float[Tensor, "f"], cov_b: Float[Tensor, "f f"]
) -> Float[Tensor, ""]:
    """The distance with one side's covariance given by its root, which is worth keeping when that side stays put."""
    # C C' and R C' R (R = C^1/2) share their eigenvalues, but the second is symmetric: they come out real and accurate.
    shared = eigenvalues(root_a @ cov_b @ root_a).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + root_a.square().sum() + cov_b.trace() - 2 * shared
    return distance.clamp(min=0)


def factored_distance(
    mean_a: Float[Tensor, "f"], rows_a: Float[Tensor, "j f"], mean_b: Float[Tensor, "f"], rows_b: Float[Tensor, "k f"]
) -> Float[Tensor, ""]:
    """The distance with both covariances given as R^T R: for fewer pictures than features, of which R has a row each.

    The eigenvalues of C C' are the squared singular values of R R'^T, so the trace of the root is their plain sum.
    """
    shared = torch.linalg.svdvals(rows_a @ rows_b.T).sum()
    distance = (mean_a - mean_b).square().sum() + rows_a.square().sum() + rows_b.square().sum() - 2 * shared
    return distance.clamp(min=0)


def root(covariance: Float[Tensor, "f f"]) -> Float[Tensor, "f f"]:
    """The symmetric square root; directions without variance stay exactly without."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * clean(values).sqrt()) @ vectors.T


def eigenvalues(symmetric: Float[Tensor, "f f"]) -> Float[Tensor, "f"]:
    return clean(torch.linalg.eigvalsh((symmetric + symmetric.T) / 2))


def clean(values: Float[Tensor, "f"]) -> Float[Tensor, "f"]:
    """Rounding leaves ~eps of the largest where an eigenvalue is zero, and the root of that is 1e-8: call it zero."""
    floor = values.max().clamp(min=0) * torch.finfo(values.dtype).eps * len(values)
    return values.where(values > floor, torch.zeros_like(values))
