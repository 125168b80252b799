"""Whose distributions the decoder is trained on. The paper's are proxies from the image alone; two more are ours.

    Proxy            the encoder's calibrated distributions (the paper; needs images only)
    AnySharpness     the same with a sharpness drawn per image, so that one decoder serves any VLM
    TeacherForced    the frozen VLM's own guided distributions at every token of a real image, from one parallel pass
                     over (caption, true tokens): no proxy and no gap, where captions exist

features, ids, captions -> observed [b n o]
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from ..config import Config
from ..training.draws import uniform
from .calibration import cosine
from .model import DCDD


class Proxy(Config):
    """Eqs. 9-15: LCDM of the encoder's calibrated distributions."""

    kind: Literal["proxy"] = "proxy"

    def __call__(self, dcdd: DCDD, batch: dict[str, Tensor]) -> Float[Tensor, "b n o"]:
        return dcdd.proxy(batch["features"].float())


class AnySharpness(Config):
    """Log-uniform sharpness per image, and now and then certainty: the uncertainty features differ."""

    kind: Literal["any_sharpness"] = "any_sharpness"
    kappa_range: tuple[float, float] = (8.0, 256.0)
    certain: float = 0.25
    """Share of images whose distributions are one-hot."""

    def __call__(self, dcdd: DCDD, batch: dict[str, Tensor]) -> Float[Tensor, "b n o"]:
        scores = cosine(batch["features"].float(), dcdd.codebook)
        low, high = map(math.log, self.kappa_range)
        draw = uniform(batch, "sharpness", 2, 1, 1).to(scores.device).transpose(0, 1)
        kappa = torch.where(draw[0] < self.certain, 1e5, torch.exp(low + (high - low) * draw[1]))
        p = (kappa * scores).softmax(-1)
        return dcdd.lcdm(p, scores.argmax(-1), dcdd.codebook)


class TeacherForced(Config):
    """The VLM's own distributions, observed once per image and kept (a few numbers a token)."""

    kind: Literal["teacher_forced"] = "teacher_forced"
    guidance: float | None = None
    """The guidance weight that the VLM will draw with; its own unless given."""

    def __call__(self, dcdd: DCDD, batch: dict[str, Tensor]) -> Float[Tensor, "b n o"]:
        return batch["observed"].float()


Distribution = Annotated[Proxy | AnySharpness | TeacherForced, Field(discriminator="kind")]
