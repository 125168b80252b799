"""How certain is a source of tokens? The statistics of DCDD's Table 1 and the targets of its calibration (Eqs. 1, 11,
12).

`TokenStatistics` takes in distributions, in the token loop or over encoder features, and keeps a few numbers per token
and one mean curve. It also measures what the paper does not, the geometry gap: calibration matches entropy and
confidence, but an encoder's distribution is centred on the true feature while a VLM's is a prediction to sample from.

p [n v] -update-> confidence, entropy, sorted curve, geometry -targets / table1-> a handful of numbers
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..config import Config
from ..nn.ranking import entropy, rows_at_a_time
from ..nn.uncertainty import uncertainty
from .lcdm import expected_codes, probabilities


class Targets(Config):
    """Pooled over all tokens (Eq. 12): entropy is over ln K, confidence is the largest probability of a token."""

    # PAPER GAP (docs/dcdd.md#target-pooling): percentiles over all tokens together, or means of percentiles per image?
    mean_entropy: float
    q95_entropy: float
    mean_confidence: float
    q95_confidence: float
    num_tokens: int
    mean_margin: float | None = None
    mean_topk_mass: float | None = None
    mean_tail_entropy: float | None = None


def normalized_entropy(p: Float[Tensor, "... v"]) -> Float[Tensor, "..."]:
    """Entropy over ln K, in [0, 1] (Eq. 11)."""
    return entropy(p) / math.log(p.shape[-1])


SUMMARIES = ("mean_margin", "mean_topk_mass", "mean_tail_entropy")
"""Of `Targets`: the means of what `uncertainty` gives beside confidence."""


def pooled(columns: Float[Tensor, "n k"]) -> Targets:
    """Summarise confidence and normalised entropy of every token (Eq. 12) and, if they follow, its `SUMMARIES`."""
    c, h, *summaries = columns.double().cpu().T.contiguous().numpy()
    return Targets(
        mean_entropy=float(h.mean()),
        q95_entropy=float(np.quantile(h, 0.95)),
        mean_confidence=float(c.mean()),
        q95_confidence=float(np.quantile(c, 0.95)),
        num_tokens=len(c),
        **{name: float(column.mean()) for name, column in zip(SUMMARIES, summaries, strict=False)},
    )


class Otsu(NamedTuple):
    """A split of sorted probabilities into a head that matters and the rest."""

    rank: Int[Tensor, "..."]
    """How many codes are in the head."""
    threshold: Float[Tensor, "..."]
    head_mass: Float[Tensor, "..."]


def between_class_variance(
    curve: Float[Tensor, "... v"], *, weigh_by_mass: bool = False
) -> tuple[Float[Tensor, "... v-1"], Float[Tensor, "... v-1"]]:
    """Otsu's criterion for every split of a descending curve (Eq. 1), and the midpoint of the two class means.

    Classes weigh by how many codes they hold; `weigh_by_mass` takes "total mass" in the paper's text at its word.
    """
    # PAPER GAP (docs/dcdd.md#otsu-weights): count weights reproduce Table 1's raw column, mass weights do not.
    curve, v = curve.double(), curve.shape[-1]
    count = torch.arange(1, v, device=curve.device, dtype=torch.float64)
    mass, total = curve.cumsum(-1)[..., :-1], curve.sum(-1, keepdim=True)
    head_mean, rest_mean = mass / count, (total - mass) / (v - count)
    weight = mass / total if weigh_by_mass else count / v
    return weight * (1 - weight) * (head_mean - rest_mean) ** 2, (head_mean + rest_mean) / 2


def otsu_exact(curve: Float[Tensor, "... v"], *, weigh_by_mass: bool = False) -> Otsu:
    """Otsu's threshold over every possible split of a descending curve; `rank` maximises Eq. 1."""
    variance, midpoint = between_class_variance(curve, weigh_by_mass=weigh_by_mass)
    best = variance.argmax(-1, keepdim=True)
    head_mass = curve.double().cumsum(-1).gather(-1, best)
    return Otsu(best[..., 0] + 1, midpoint.gather(-1, best)[..., 0], head_mass[..., 0])


def otsu_hist256(curve: Float[Tensor, "v"]) -> Otsu:
    """Otsu's threshold as image libraries compute it: over a histogram of 256 bins, cut at a bin's centre."""
    values = curve.double().cpu().numpy()
    counts, edges = np.histogram(values, bins=256)
    centres = (edges[:-1] + edges[1:]) / 2
    below, above = counts.cumsum(), counts[::-1].cumsum()[::-1]
    mean_below = (counts * centres).cumsum() / below.clip(1)
    mean_above = (counts * centres)[::-1].cumsum()[::-1] / above.clip(1)
    variance = below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    threshold = centres[variance.argmax()]
    head = values[values > threshold]
    return Otsu(torch.tensor(len(head)), torch.tensor(threshold), torch.tensor(head.sum()))


class TokenStatistics:
    """Accumulates what Table 1 reports, token by token. Sorts every row, so it is for measuring, not for serving."""

    def __init__(self, codebook: Float[Tensor, "v d"] | None = None) -> None:
        """Args: codebook: unit rows, needed only for `geometry`."""
        self.codebook = codebook
        self._tokens: list[Float[Tensor, "n k"]] = []
        self._geometry: list[Float[Tensor, "n 3"]] = []
        self._curve: Float[Tensor, "v"] | None = None

    @property
    def num_tokens(self) -> int:
        return sum(map(len, self._tokens))

    def update_logits(self, logits: Float[Tensor, "... v"], sampled: Int[Tensor, "..."] | None = None) -> None:
        """Take in guided logits at their native scale."""
        self.update(probabilities(logits), sampled)

    @torch.no_grad()
    def update(self, p: Float[Tensor, "... v"], sampled: Int[Tensor, "..."] | None = None) -> None:
        """Take in distributions (rows sum to one) and, if known, the tokens sampled from them.

        Raises:
            ValueError: if the rows are not probabilities, or have another length than those before.
        """
        rows = p.flatten(0, -2)
        size = rows_at_a_time(p.shape[-1], p.device)
        tokens = [None] * math.ceil(len(rows) / size) if sampled is None else sampled.flatten().split(size)
        for part, drawn in zip(rows.split(size), tokens, strict=True):
            self._take(part, drawn)

    def _take(self, p: Float[Tensor, "n v"], sampled: Int[Tensor, "n"] | None) -> None:
        off = (p.sum(-1) - 1).abs().max().item()
        if not off < 1e-3:
            raise ValueError(f"rows of p must sum to one, one is off by {off:.3g}; logits go to update_logits")
        curve = p.sort(-1, descending=True).values
        total = curve.double().sum(0)
        if self._curve is not None and self._curve.shape != total.shape:
            raise ValueError(f"these distributions are over {len(total)} codes, those before over {len(self._curve)}")
        self._curve = total if self._curve is None else self._curve + total
        rank = otsu_exact(curve).rank.to(p.dtype)
        u = uncertainty(p)
        columns = [curve[:, 0], normalized_entropy(p), u[:, 1], u[:, 2], u[:, 3], rank]
        self._tokens.append(torch.stack(columns, -1))
        if self.codebook is not None and sampled is not None:
            mean, drawn = expected_codes(p, self.codebook), self.codebook[sampled]
            chance = p.gather(-1, sampled.unsqueeze(-1)).squeeze(-1)
            cosine = torch.cosine_similarity(mean, drawn, dim=-1)
            self._geometry.append(torch.stack([cosine, mean.norm(dim=-1), chance], -1))

    def _columns(self) -> Float[Tensor, "n k"]:
        if not self._tokens:
            raise ValueError("no token has been observed yet; call update with distributions first")
        return torch.cat(self._tokens)

    def targets(self) -> Targets:
        """The four target statistics of Eq. 12 and, for the record, the means of the uncertainty features."""
        return pooled(self._columns()[:, :-1])

    def mean_curve(self, num_codes: int | None = None) -> Float[Tensor, "k"]:
        """Mean probability by rank, most probable first (Fig. 6 shows the first 30)."""
        if self._curve is None:
            raise ValueError("no token has been observed yet; call update with distributions first")
        return (self._curve / self.num_tokens)[:num_codes]

    def geometry(self) -> dict[str, float]:
        """Where the expected code points: its cosine with the drawn code, its length, the drawn code's probability."""
        if not self._geometry:
            raise ValueError("the geometry gap needs TokenStatistics(codebook) and the sampled tokens")
        means = torch.cat(self._geometry).double().mean(0).tolist()
        return dict(zip(["cosine_to_sampled", "expected_code_norm", "sampled_probability"], means, strict=True))

    def table1(self) -> dict[str, float]:
        """One column of the paper's Table 1 by row name, with what else is needed to compare two sources.

        `otsu_*` belong to the mean sorted curve, as Table 1's head mass does; the other ways of averaging follow.
        """
        # PAPER GAP (docs/dcdd.md#otsu-aggregation): how ranks were averaged over tokens is not determined.
        curve, targets = self.mean_curve(), self.targets()
        exact, binned, by_mass = otsu_exact(curve), otsu_hist256(curve), otsu_exact(curve, weigh_by_mass=True)
        return {
            "top1": curve[0].item(),
            "top2": curve[1].item(),
            "normalized_entropy": targets.mean_entropy,
            "tail_entropy": targets.mean_tail_entropy or 0.0,
            "margin": targets.mean_margin or 0.0,
            "topk_mass": targets.mean_topk_mass or 0.0,
            "otsu_threshold": exact.threshold.item(),
            "otsu_rank": exact.rank.item(),
            "head_mass": exact.head_mass.item(),
            "otsu_threshold_hist256": binned.threshold.item(),
            "otsu_rank_hist256": binned.rank.item(),
            "head_mass_hist256": binned.head_mass.item(),
            "otsu_rank_by_mass": by_mass.rank.item(),
            "otsu_rank_token_median": self._columns()[:, -1].median().item(),
        }
