"""Beyond the paper: tokens with the distributions they were sampled from (spec 4).

Before sampling a code, the model computes a distribution over all codes. We keep a summary of it: how far the expected
code lies from the sampled one, how undecided the distribution is, and how many nats it expects of the patches below.
The sampled code stays in: later tokens were sampled given it, and the mean of two modes would contradict them.

logits [b v], sampled [b] -Summary-> [b d+4+parts] ; ids, summary -Both | Mean-> features of a token ; ids -Hard-> code
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from ..checkpoint import fingerprint
from ..config import Config
from ..decoder import needed
from ..nn.uncertainty import CERTAIN, NUM_UNCERTAINTY, uncertainty
from ..protocols import Observe, VisualTokens
from .conditions import Conditions
from .tokenizer import CodedPatches


@dataclass(frozen=True)
class Summary:
    """What is kept of a distribution over codes `[e - code, u - (1, 1, 1, 0), expected KL of each patch]`.

    The differences are zero for a distribution on the sampled code, so such a token is a hard one, whatever weights
    read it. The KL is the expectation, plus `doubt` nats per nat of entropy: undecided cells are drawn late.
    """

    codebook: Float[Tensor, "v d"]
    kl: Float[Tensor, "v parts"]
    doubt: float = 0.0

    def __call__(self, logits: Float[Tensor, "b v"], sampled: Int[Tensor, "b"]) -> Float[Tensor, "b o"]:
        return self.of(logits.float().softmax(-1), sampled)

    def of(self, q: Float[Tensor, "... v"], sampled: Int[Tensor, "..."]) -> Float[Tensor, "... o"]:
        """The summary of probabilities; their mean code is not renormalised, its length is how concentrated they are.

        Raises:
            ValueError: as many probabilities as codes are expected.
        """
        codebook, kl = self.codebook.to(q), self.kl.to(q)
        if q.shape[-1] != len(codebook):
            raise ValueError(
                f"this codebook has {len(codebook)} codes but the distribution is over {q.shape[-1]}; "
                "do tokenizer and VLM belong together?"
            )
        lean = q @ codebook - codebook[sampled]
        less = uncertainty(q) - q.new_tensor(CERTAIN)
        doubt = self.doubt * torch.special.entr(q).sum(-1, keepdim=True)
        return torch.cat([lean, less, q @ kl + doubt], -1)

    @cached_property
    def name(self) -> str:
        """One name for one content: the codes, their KL, and what is made of them."""
        settings = torch.tensor([self.doubt])
        return f"distribution-{fingerprint({'codes': self.codebook, 'kl': self.kl, 'doubt': settings})[:8]}"


class Hard(Config):
    """The sampled code and nothing else: the paper's tokens."""

    kind: Literal["hard"] = "hard"

    def num_features(self, dim: int) -> int:
        return dim

    def observers(self, codes: CodedPatches) -> Mapping[str, Observe]:
        return {}

    def decided(self, codes: CodedPatches, ids: Int[Tensor, "b l"]) -> Float[Tensor, "b l o"]:
        """What is observed of decided tokens: nothing."""
        return codes.codebook[ids.to(codes.codebook.device)][..., :0]

    def __call__(self, codes: CodedPatches, tokens: VisualTokens) -> Float[Tensor, "b l o"]:
        return codes.codebook[tokens.ids.to(codes.codebook.device)]

    def trained(
        self, codes: CodedPatches, batch: Mapping[str, Tensor], units: Float[Tensor, "b l d"], ids: Int[Tensor, "b l"]
    ) -> Float[Tensor, "b l f"]:
        """What the trunk reads while it is trained."""
        return codes.codebook[ids]


class Summarised(Config):
    """Inputs that read the summary of a distribution."""

    doubt: float = 0.0
    """Nats added to a patch's expected KL per nat of entropy."""
    conditions: Conditions = Conditions()
    """What stands in for a language model's distributions in training."""

    def summary(self, codes: CodedPatches) -> Summary:
        known = codes.codewords
        return Summary(codes.codebook, known.complete(known.kl), self.doubt)

    def observers(self, codes: CodedPatches) -> Mapping[str, Observe]:
        summary = self.summary(codes)
        return {summary.name: summary}

    def decided(self, codes: CodedPatches, ids: Int[Tensor, "b l"]) -> Float[Tensor, "b l o"]:
        """The summary of distributions that are on the given codes alone."""
        summary = self.summary(codes)
        nothing = summary.codebook.new_zeros(*ids.shape, codes.config.dim + NUM_UNCERTAINTY)
        return torch.cat([nothing, summary.kl[ids.to(nothing.device)]], -1)

    def observed(self, codes: CodedPatches, tokens: VisualTokens) -> Float[Tensor, "b l o"]:
        """What was kept of the distributions.

        Raises:
            ValueError: nothing was.
        """
        name = self.summary(codes).name
        return needed(tokens, name, "generate them with observe=madit.observers").to(codes.codebook)

    def __call__(self, codes: CodedPatches, tokens: VisualTokens) -> Float[Tensor, "b l o"]:
        return self.features(codes, tokens.ids, self.observed(codes, tokens))

    def trained(
        self, codes: CodedPatches, batch: Mapping[str, Tensor], units: Float[Tensor, "b l d"], ids: Int[Tensor, "b l"]
    ) -> Float[Tensor, "b l f"]:
        """What the trunk reads while it is trained: a mixture of `conditions`."""
        summarise, decided = self.summary(codes).of, self.decided(codes, ids)
        return self.features(codes, *self.conditions.mixed(summarise, decided, codes.codebook, batch, units, ids))

    @abstractmethod
    def features(
        self, codes: CodedPatches, ids: Int[Tensor, "b l"], observed: Float[Tensor, "b l o"]
    ) -> Float[Tensor, "b l f"]:
        """What the trunk reads of a token."""


class Both(Summarised):
    """The sampled code, how far the expected one lies from it, and how undecided the distribution is.

    Columns beyond the code start at weight zero (`widened`), so that training starts from the decoder of hard tokens.
    """

    kind: Literal["both"] = "both"

    def num_features(self, dim: int) -> int:
        return 2 * dim + NUM_UNCERTAINTY

    def features(
        self, codes: CodedPatches, ids: Int[Tensor, "b l"], observed: Float[Tensor, "b l o"]
    ) -> Float[Tensor, "b l f"]:
        code = codes.codebook[ids.to(codes.codebook.device)]
        return torch.cat([code, observed[..., : codes.config.dim + NUM_UNCERTAINTY]], -1)


class Mean(Summarised):
    """The expected code instead of the sampled one: the control that forgets what was committed to."""

    kind: Literal["mean"] = "mean"

    def num_features(self, dim: int) -> int:
        return dim

    def features(
        self, codes: CodedPatches, ids: Int[Tensor, "b l"], observed: Float[Tensor, "b l o"]
    ) -> Float[Tensor, "b l f"]:
        return codes.codebook[ids.to(codes.codebook.device)] + observed[..., : codes.config.dim]


TokenInput = Annotated[Hard | Both | Mean, Field(discriminator="kind")]


class ExpectedKL(Config):
    """The KL that the distributions expect of each patch; tokens must come with their summary."""

    kind: Literal["expected_kl"] = "expected_kl"
    input: Both = Both()
    """Whose summary is read."""

    def __call__(self, codes: CodedPatches, tokens: VisualTokens, seeds: Sequence[int]) -> Float[Tensor, "b n"]:
        observed = self.input.observed(codes, tokens)
        return codes.layout.by_patch(observed[..., codes.config.dim + NUM_UNCERTAINTY :])


def widened(layer: Tensor, columns: int) -> Tensor:
    """A weight matrix with more input columns, of weight zero; what it computes stays."""
    return torch.nn.functional.pad(layer, (0, columns - layer.shape[1]))
