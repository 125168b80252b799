"""From scores to probabilities: the softmax that makes an encoder as certain of its codes as the VLM is (DCDD Eqs. 10,
13-15).

Training conditions come from an encoder, whose cosines to the codes are nearly flat under a plain softmax; at inference
they come from the VLM's logits, which have a scale of their own. `Calibration` brings the first to the second. Of its
numbers only kappa * alpha / tau and epsilon change anything: alpha and tau repeat kappa, beta cancels in the softmax.
All five are kept because the paper names them.

features [n d] -cosine-> scores [n v] -scale, softmax, smooth-> p [n v] -LCDM-> [n o], a few rows at a time
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from ..checkpoint import fingerprint
from ..config import Config
from ..nn.ranking import largest, precise, rows_at_a_time
from .lcdm import LCDM


def cosine(features: Float[Tensor, "... d"], codebook: Float[Tensor, "v d"]) -> Float[Tensor, "... v"]:
    """Proxy image-token logits: the cosine of every feature with every code, in [-1, 1] (Eqs. 10, 13)."""
    if features.shape[-1] != codebook.shape[-1]:
        raise ValueError(
            f"features have {features.shape[-1]} dimensions but the codes have {codebook.shape[-1]}; "
            "are these the features after quant_conv?"
        )
    features, codes = F.normalize(precise(features), dim=-1), F.normalize(precise(codebook), dim=-1)
    return features @ codes.to(features.dtype).mT


class Affine(Config):
    """The VLM keeps its own scale: kappa counts as 1, everything else applies."""

    name: Literal["affine"] = "affine"
    epsilon: float | None = Field(default=None, ge=0, lt=1)
    """Not in the paper: the VLM's own smoothing, where it is not to be the encoder's."""

    def __call__(self, encoder: Calibration) -> Calibration:
        epsilon = encoder.epsilon if self.epsilon is None else self.epsilon
        return encoder.model_copy(update={"kappa": 1.0, "top1_margin": 0.0, "epsilon": epsilon})


class SmoothOnly(Config):
    """The VLM's distribution is only smoothed by epsilon."""

    name: Literal["smooth_only"] = "smooth_only"

    def __call__(self, encoder: Calibration) -> Calibration:
        return Calibration(epsilon=encoder.epsilon)


class Untouched(Config):
    """The VLM's distribution stays as it is."""

    name: Literal["off"] = "off"

    def __call__(self, encoder: Calibration) -> Calibration:
        return Calibration()


class Literally(Config):
    """The paper to the letter: the encoder's kappa multiplies VLM logits too, which collapses them to one-hot."""

    name: Literal["literal"] = "literal"

    def __call__(self, encoder: Calibration) -> Calibration:
        return encoder


# PAPER GAP (docs/dcdd.md#calibration-on-vlm): "the same calibration is also applied to the VLM's logits", but they
# already have their native scale; times kappa = 30 they would be one-hot.
VLMSide = Annotated[Affine | SmoothOnly | Untouched | Literally, Field(discriminator="name")]
"""What of the encoder's calibration is also applied to the VLM's logits. It moves the condition, never the sampling."""


class Calibration(Config):
    """p = (1 - epsilon) softmax((kappa alpha s + beta) / tau) + epsilon / K; the defaults are the raw softmax."""

    # PAPER GAP (docs/dcdd.md#calibration-parameters): the printed symbols and values are lost; this form covers both
    # the cosine scale of section 5.2 and the logit scale, bias and temperature of B.2.
    kappa: float = Field(default=1.0, ge=0)
    """Cosine scale (inverse temperature) of the encoder's scores."""
    alpha: float = Field(default=1.0, gt=0)
    """Affine scale; redundant with kappa on the encoder's side."""
    beta: float = 0.0
    """Affine bias; it cancels in the softmax."""
    tau: float = Field(default=1.0, gt=0)
    """Temperature; redundant with kappa on the encoder's side."""
    epsilon: float = Field(default=0.0, ge=0, lt=1)
    """Label smoothing: how much of every distribution is spread evenly over all codes."""
    top1_margin: float = 0.0
    """Not in the paper: taken off every row's largest cosine, as ArcFace does. Moves confidence at a given entropy."""
    vlm_side: VLMSide = Affine()

    @property
    def sharpness(self) -> float:
        """kappa * alpha / tau, the one scale that matters on the encoder's side."""
        return self.kappa * self.alpha / self.tau

    def __call__(self, scores: Float[Tensor, "... v"]) -> Float[Tensor, "... v"]:
        """Turn scores, cosines or logits, into probabilities (Eqs. 14-15)."""
        scores = precise(scores)
        if self.top1_margin:
            best = scores.argmax(-1, keepdim=True)
            scores = scores.scatter_add(-1, best, torch.full_like(scores[..., :1], -self.top1_margin))
        p = scores.mul(self.sharpness).add_(self.beta / self.tau).softmax(-1)
        return p.lerp(p.new_tensor(1 / p.shape[-1]), self.epsilon)

    def proxy(self, features: Float[Tensor, "... d"], codebook: Float[Tensor, "v d"]) -> Float[Tensor, "... v"]:
        """The encoder's calibrated distribution over codes (Eqs. 10, 13-15)."""
        return self(cosine(features, codebook))

    def on_vlm(self, logits: Float[Tensor, "... v"]) -> Float[Tensor, "... v"]:
        """The VLM's distribution over codes, from its guided, unfiltered logits."""
        return self.vlm_side(self)(logits)


@dataclass(frozen=True)
class Observer:
    """LCDM inside the token loop, so that distributions are summarised and never stored (an `Observe`).

    Given the guided logits [b v] and the tokens just sampled, it returns the few numbers that a decoder will draw from.
    """

    lcdm: LCDM
    codebook: Float[Tensor, "v d"]
    """Unit rows."""
    calibration: Calibration = Calibration()  # noqa: RUF009

    def __post_init__(self) -> None:
        require_unit_rows(self.codebook)

    @torch.no_grad()
    def __call__(self, logits: Float[Tensor, "b v"], sampled: Int[Tensor, "b"]) -> Float[Tensor, "b o"]:
        return self.lcdm(self.calibration.on_vlm(logits), sampled, self.codebook.to(logits.device))

    @property
    def name(self) -> str:
        """`lcdm-` and eight digits of all that decides the numbers: observers of one name return the same."""
        on_vlm = self.calibration.vlm_side(self.calibration).model_dump_json(exclude={"vlm_side"})
        parts = (self.lcdm.model_dump_json(), on_vlm, fingerprint(self.codebook))
        return f"lcdm-{sha256(' '.join(parts).encode()).hexdigest()[:8]}"


@torch.no_grad()
def observe_rows(
    rows: Float[Tensor, "b n x"],
    distribution: Callable[[Tensor], Tensor],
    lcdm: LCDM,
    codebook: Float[Tensor, "v d"],
    sampled: Int[Tensor, "b n"] | None = None,
) -> Float[Tensor, "b n o"]:
    """LCDM of whole sequences, a few rows at a time; the tensor [b n v] of probabilities never exists.

    Args:
        rows: what distributions are made from, e.g. logits [b n v] or features [b n d].
        distribution: rows to probabilities, e.g. `calibration.on_vlm`, or `probabilities`.
        lcdm: probabilities to what is kept.
        codebook: unit rows.
        sampled: the tokens that were drawn; by default the most probable ones.

    Returns:
        The same numbers as an `Observer` at every step.
    """
    chunk = rows_at_a_time(codebook.shape[0], rows.device)
    tokens = None if sampled is None else sampled.flatten()
    kept = []
    for start, part in enumerate(rows.flatten(0, -2).split(chunk)):
        p = distribution(part)
        drawn = largest(p, 1)[1].squeeze(-1) if tokens is None else tokens[start * chunk : (start + 1) * chunk]
        kept.append(lcdm(p, drawn, codebook))
    return torch.cat(kept).unflatten(0, rows.shape[:-1])


def proxy_features(
    features: Float[Tensor, "b n d"],
    calibration: Calibration,
    lcdm: LCDM,
    codebook: Float[Tensor, "v d"],
    sampled: Int[Tensor, "b n"] | None = None,
) -> Float[Tensor, "b n o"]:
    """The training condition: LCDM of an encoder's calibrated distributions. `sampled` defaults to the VQ tokens."""
    distribution = partial(calibration.proxy, codebook=codebook)
    return observe_rows(features, distribution, lcdm, codebook, sampled)


def require_unit_rows(codebook: Float[Tensor, "v d"]) -> None:
    """Raise if the codes are not unit vectors: cosines, expected codes and tokens would silently change scale."""
    norms = codebook.float().norm(dim=-1)
    low, high = norms.min().item(), norms.max().item()
    if not (abs(low - 1) < 1e-3 and abs(high - 1) < 1e-3):
        raise ValueError(
            f"codebook rows must have unit norm, these have {low:.4g} to {high:.4g}; "
            "pass torch.nn.functional.normalize(codebook.float(), dim=-1)"
        )
