"""Logit-to-Code Distributional Mapping: a distribution over codes as d + 4 numbers a token (DCDD Eqs. 4-8).

Before sampling a code, the VLM computes a distribution over all codes. We keep a summary of it: the expected code
vector keeps which codes are likely (its length keeps how concentrated they are); four uncertainty features keep how the
mass is spread. `Expectation` is the paper's LCDM, the other classes its variants; hard codes are LCDM of a one-hot
distribution.

logits [n v] -probabilities-> p [n v] -expected_codes-> [n d]; p -uncertainty-> [n 4]; both -LCDM-> [n o]
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from ..config import Config
from ..nn.ranking import precise
from ..nn.uncertainty import CERTAIN, NUM_UNCERTAINTY, UncertaintyConfig, uncertainty


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


class OneVector(Config):
    """One code vector and u."""

    def num_features(self, d: int) -> int:
        return d + NUM_UNCERTAINTY


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
        certain = codebook.new_tensor(CERTAIN).expand(*sampled.shape, -1)
        return torch.cat([codebook[sampled], certain], -1).float()


class Committed(Config):
    """The sampled code, how far the expected code is from it, and u: `[e_s, c_bar - e_s, u]`.

    Later tokens were drawn given the sampled code, so a decoder may want to know it apart from the expectation.
    """

    name: Literal["committed"] = "committed"
    uncertainty: UncertaintyConfig = UncertaintyConfig()

    def num_features(self, d: int) -> int:
        return 2 * d + NUM_UNCERTAINTY

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
