"""Logit-to-Code Distributional Mapping: a distribution over codes as d + 4 numbers a token (DCDD Eqs. 4-8).

Before sampling a code, the VLM computes a distribution over all codes. We keep a summary of it: the expected code
vector keeps which codes are likely (its length keeps how concentrated they are); four uncertainty features keep how the
mass is spread. `Expectation` is the paper's LCDM, the other classes its variants; hard codes are LCDM of a one-hot
distribution.

logits [n v] -probabilities-> p [n v] -expected_codes-> [n d]; p -uncertainty-> [n 4]; both -LCDM-> [n o]
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from ..config import Config
from .ranking import precise, ranked


class UncertaintyConfig(Config):
    """How the uncertainty features of Eq. 8 are cut. The paper fixes only the range 8 to 64."""

    k_range: tuple[int, int] = (8, 64)
    """Bounds of the adaptive top-k."""
    k_mode: Literal["perplexity", "linear", "fixed"] = "perplexity"
    """How k grows with entropy: exp(entropy); linearly in normalised entropy; or not at all (the upper bound)."""
    k_tail: int | Literal["adaptive"] = 10
    """The tail is everything but this many codes; 'adaptive' leaves out the top-k itself."""
    tail_mass_floor: float = 1e-6
    """Below this mass the tail is empty and its entropy 0."""

    @model_validator(mode="after")
    def _cuts_exist(self) -> UncertaintyConfig:
        if not 1 <= self.k_range[0] <= self.k_range[1]:
            raise ValueError(f"k_range must rise from at least 1, not {self.k_range}")
        if self.k_tail != "adaptive" and self.k_tail < 1:
            raise ValueError(f"k_tail must be at least 1 or 'adaptive', not {self.k_tail}")
        return self


def probabilities(logits: Float[Tensor, "... v"]) -> Float[Tensor, "... v"]:
    """Turn guided logits into a distribution over codes, in fp32 at least (Eq. 5)."""
    return precise(logits).softmax(-1)


def expected_codes(p: Float[Tensor, "... v"], codebook: Float[Tensor, "v d"]) -> Float[Tensor, "... d"]:
    """Average the code vectors under the distribution (Eqs. 6-7).

    The result is not renormalised: with unit-norm codes its length, at most one, is larger the more concentrated p is.
    """
    if p.shape[-1] != codebook.shape[0]:
        raise ValueError(
            f"this codebook has {codebook.shape[0]} codes but the logits have {p.shape[-1]}; "
            "do tokenizer and VLM belong together?"
        )
    # PAPER GAP (docs/dcdd.md#expected-code-norm): not stated whether it is renormalised; `Direction` does.
    # As C^T p^T: for a codebook of so few columns a CPU's BLAS needs half the time of p C.
    return (codebook.to(p.dtype).t() @ p.reshape(-1, p.shape[-1]).t()).t().reshape(*p.shape[:-1], -1)


def adaptive_k(nats: Float[Tensor, "..."], num_codes: int, config: UncertaintyConfig) -> Int[Tensor, "..."]:
    """Choose k of the adaptive top-k mass from a row's entropy in nats; a broader one gets a larger k."""
    # PAPER GAP (docs/dcdd.md#adaptive-k): "entropy-adaptive k constrained between 8 and 64" is all the paper says.
    low, high = (min(bound, num_codes - 1) for bound in config.k_range)
    wanted = {
        "perplexity": lambda: nats.exp(),
        "linear": lambda: low + (high - low) * nats / math.log(num_codes),
        "fixed": lambda: torch.full_like(nats, high),
    }[config.k_mode]()
    return wanted.round().long().clamp(low, high)  # in this order NaN is no index out of bounds; u is NaN all the same


def uncertainty(
    p: Float[Tensor, "... v"],
    config: UncertaintyConfig = UncertaintyConfig(),  # noqa: B008
) -> Float[Tensor, "... 4"]:
    """Describe how certain each token is (Eq. 8).

    Args:
        p: probabilities over the codebook; rows sum to one.
        config: where the top-k and the tail are cut.

    Returns:
        Largest probability, top-1 minus top-2 margin, adaptive top-k mass and normalised tail entropy, each in [0, 1].
    """
    p, v = precise(p), p.shape[-1]
    if v < 3:
        raise ValueError(f"uncertainty needs at least 3 codes to have a head and a tail, this distribution has {v}")
    widest_tail = 0 if config.k_tail == "adaptive" else min(config.k_tail, v - 2)
    head, rest_mass, rest_entropy = ranked(p, min(max(config.k_range[1], widest_tail, 2), v - 1))
    information = -torch.xlogy(head, head)
    k = adaptive_k(rest_entropy + information.sum(-1), v, config)
    topk_mass = head.cumsum(-1).gather(-1, (k - 1).unsqueeze(-1)).squeeze(-1)

    # PAPER GAP (docs/dcdd.md#tail-entropy): Table 1 fits a tail of all but ten codes, renormalised, over ln(v - 10).
    k_tail = k.clamp_max(v - 2) if config.k_tail == "adaptive" else torch.full_like(k, widest_tail)
    in_tail = torch.arange(head.shape[-1], device=p.device) >= k_tail.unsqueeze(-1)
    tail_mass = rest_mass + (head * in_tail).sum(-1)
    tail_nats = rest_entropy + (information * in_tail).sum(-1)
    some_mass = tail_mass.clamp_min(torch.finfo(p.dtype).tiny)
    tail = (tail_nats / some_mass + some_mass.log()) / (v - k_tail).to(p.dtype).log()
    tail = torch.where(tail_mass < config.tail_mass_floor, 0.0, tail)
    return torch.stack([head[..., 0], head[..., 0] - head[..., 1], topk_mass, tail], -1).clamp(0, 1)


class OneVector(Config):
    """One code vector and u."""

    def num_features(self, d: int) -> int:
        return d + 4


class Expectation(OneVector):
    """The paper's LCDM: the expected code and its uncertainty, `[c_bar, u]`."""

    name: Literal["expectation"] = "expectation"
    uncertainty: UncertaintyConfig = UncertaintyConfig()

    def __call__(
        self, p: Float[Tensor, "... v"], sampled: Int[Tensor, "..."], codebook: Float[Tensor, "v d"]
    ) -> Float[Tensor, "... o"]:
        return torch.cat([expected_codes(p, codebook), uncertainty(p, self.uncertainty)], -1).float()


class Direction(OneVector):
    """The direction of the expected code and its uncertainty, `[c_bar / |c_bar|, u]`: concentration is in u alone."""

    name: Literal["direction"] = "direction"
    uncertainty: UncertaintyConfig = UncertaintyConfig()

    def __call__(
        self, p: Float[Tensor, "... v"], sampled: Int[Tensor, "..."], codebook: Float[Tensor, "v d"]
    ) -> Float[Tensor, "... o"]:
        return torch.cat(
            [F.normalize(expected_codes(p, codebook), dim=-1), uncertainty(p, self.uncertainty)], -1
        ).float()


class HardCodes(OneVector):
    """What a plain decoder gets: the sampled code, as certain. Equals `Expectation` of a one-hot distribution."""

    name: Literal["hard_codes"] = "hard_codes"

    def __call__(
        self, p: Float[Tensor, "... v"], sampled: Int[Tensor, "..."], codebook: Float[Tensor, "v d"]
    ) -> Float[Tensor, "... o"]:
        certain = codebook.new_tensor([1.0, 1.0, 1.0, 0.0]).expand(*sampled.shape, 4)
        return torch.cat([codebook[sampled], certain], -1).float()


class Committed(Config):
    """The sampled code, how far the expected code is from it, and u: `[e_s, c_bar - e_s, u]`.

    Later tokens were drawn given the sampled code, so a decoder may want to know it apart from the expectation.
    """

    name: Literal["committed"] = "committed"
    uncertainty: UncertaintyConfig = UncertaintyConfig()

    def num_features(self, d: int) -> int:
        return 2 * d + 4

    def __call__(
        self, p: Float[Tensor, "... v"], sampled: Int[Tensor, "..."], codebook: Float[Tensor, "v d"]
    ) -> Float[Tensor, "... o"]:
        chosen = codebook[sampled]
        return torch.cat([chosen, expected_codes(p, codebook) - chosen, uncertainty(p, self.uncertainty)], -1).float()


class SampledMix(OneVector):
    """LCDM of (1 - gamma) p + gamma onehot(sampled): how much of the geometry gap the sampled token closes."""

    name: Literal["sampled_mix"] = "sampled_mix"
    gamma: float = Field(default=0.5, ge=0, le=1)
    """0 is `Expectation`, 1 is `HardCodes`."""
    uncertainty: UncertaintyConfig = UncertaintyConfig()

    def __call__(
        self, p: Float[Tensor, "... v"], sampled: Int[Tensor, "..."], codebook: Float[Tensor, "v d"]
    ) -> Float[Tensor, "... o"]:
        towards = torch.full_like(p[..., :1], self.gamma)
        mixed = (p * (1 - self.gamma)).scatter_add(-1, sampled.unsqueeze(-1), towards)
        return Expectation(uncertainty=self.uncertainty)(mixed, sampled, codebook)


LCDM = Annotated[Expectation | Direction | HardCodes | Committed | SampledMix, Field(discriminator="name")]
"""What is kept of one token: `num_features(d)` fp32 numbers from distribution, sampled token and codebook."""
