"""The flow loss (DCDD Eq. 26) and its weights over time. A weight is a small frozen config that can be called.

predicted, true velocity -velocity_error-> one number per item ; weight(t) * error -mean-> the loss
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from ..config import Config
from .path import path_variance


class One(Config):
    """Every time counts the same: plain rectified flow, as FLUX is trained."""

    kind: Literal["one"] = "one"

    def __call__(self, t: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return torch.ones_like(t)


class VPrediction(Config):
    """`n²`: makes the loss equal to the v-prediction error on the VP path of DCDD Eq. 18, to the digit."""

    kind: Literal["v_prediction"] = "v_prediction"

    def __call__(self, t: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return path_variance(t)


class Cosmap(Config):
    """`2 / (π n²)`, Stable Diffusion 3's cosmap weighting."""

    kind: Literal["cosmap"] = "cosmap"

    def __call__(self, t: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return 2 / (math.pi * path_variance(t))


LossWeight = Annotated[One | VPrediction | Cosmap, Field(discriminator="kind")]


def velocity_error(predicted: Float[Tensor, "b ..."], target: Float[Tensor, "b ..."]) -> Float[Tensor, "b"]:
    """The mean squared error of each item, in fp32 whatever the net computes in (DCDD Eq. 26 before its average)."""
    return (predicted.float() - target.float()).square().flatten(1).mean(1)
