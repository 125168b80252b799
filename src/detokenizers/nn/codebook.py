"""Vector quantisation on the unit sphere: every vector is replaced by the code of largest cosine.

Three ways for codes to learn: `Averages` (a running mean of the vectors assigned to each code), `SimVQ` (a learned
linear map of frozen random rows, arXiv 2411.02038) and `IBQ` (a soft choice gives gradients to all rows, 2412.02692).
All paths read the codes through `rows()`, so training, tokenising and a language model use the same unit vectors.

z [... d] -unit-> cosines with rows [v d] -argmax-> ids ; codes = z + sg(rows[ids] - z), loss
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Num
from pydantic import Field
from torch import Tensor, nn

from ..config import Config

CHUNK_ROWS = 4096
"""Vectors compared with the codes at a time; at 65,536 codes their cosines are 1 GiB."""


class Restarts(Config):
    """A code that wins too few vectors moves to a vector of the current batch."""

    below: float = Field(default=0.1, ge=0)
    """Share of the mean count under which a code is dead. An absolute count would depend on the batch."""
    age: int = Field(default=20, ge=0)
    """Updates a code gets to win vectors before it may restart."""
    # A slower rule (a mean over 100 updates, age 200) acts when the codebook has already collapsed.


class Averages(Config):
    """Each code is the direction of a running sum of the vectors assigned to it; no gradient reaches it."""

    kind: Literal["ema"] = "ema"
    decay: float = Field(default=0.97, ge=0, lt=1)
    """Of counts and sums, per update."""
    restarts: Restarts = Restarts()

    def build(self, codes: int, dim: int, commitment: float) -> AveragedCodebook:
        return AveragedCodebook(self, codes, dim, commitment)


class SimVQ(Config):
    """Frozen random rows times one learned matrix, so that a gradient to one code moves all."""

    kind: Literal["simvq"] = "simvq"

    def build(self, codes: int, dim: int, commitment: float) -> SimCodebook:
        return SimCodebook(codes, dim, commitment)


class IBQ(Config):
    """Free rows; the soft choice over all codes carries a gradient to every one. Memory grows with vectors x codes."""

    kind: Literal["ibq"] = "ibq"
    temperature: float = Field(default=0.01, gt=0)
    """Divides the cosines before the softmax."""
    entropy: float = Field(default=0.05, ge=0)
    """Weight of `mean H(p) - H(mean p)`: choices are to be sharp, and codes used alike."""

    def build(self, codes: int, dim: int, commitment: float) -> SoftCodebook:
        return SoftCodebook(self, codes, dim, commitment)


Rule = Annotated[Averages | SimVQ | IBQ, Field(discriminator="kind")]


class Quantized(NamedTuple):
    """Code vectors (straight through), their ids, and the quantiser's own loss."""

    codes: Float[Tensor, "... d"]
    ids: Int[Tensor, "..."]
    loss: Float[Tensor, ""]


class Codebook(nn.Module, ABC):
    """What the three have in common: a nearest-code search, the straight-through estimator, and counts of use."""

    window: Tensor
    whole: Tensor

    def __init__(self, codes: int, dim: int, commitment: float) -> None:
        super().__init__()
        self.size, self.dim, self.commitment = codes, dim, commitment
        self.register_buffer("window", torch.zeros(codes))
        self.register_buffer("whole", torch.zeros(codes))

    @abstractmethod
    def rows(self) -> Float[Tensor, "v d"]:
        """The codes: unit rows, fp32."""

    @torch.no_grad()
    def nearest(self, z: Float[Tensor, "... d"]) -> Int[Tensor, "..."]:
        """The code of largest cosine; the first of equals."""
        return nearest(z, self.rows())

    def forward(self, z: Float[Tensor, "... d"]) -> Quantized:
        """Quantise vectors of any norm; gradients reach `z` as if nothing had been rounded."""
        with torch.autocast(z.device.type, enabled=False):
            z = F.normalize(z.float(), dim=-1)
            ids = self.nearest(z)
            codes = self.rows()[ids]
            return Quantized(z + (codes - z).detach(), ids, self.loss(z, codes))

    def loss(self, z: Float[Tensor, "... d"], codes: Float[Tensor, "... d"]) -> Float[Tensor, ""]:
        """`|codes - sg(z)|^2 + beta |z - sg(codes)|^2`, per vector; the first term is nothing where codes are means."""
        return _distance(codes, z.detach()) + self.commitment * _distance(z, codes.detach())

    def seed(self, vectors: Float[Tensor, "m d"], rounds: int = 10) -> None:
        """Start from data, where rows are free to; `SimVQ`'s are not."""

    @torch.no_grad()
    def update(self, z: Float[Tensor, "m d"], ids: Int[Tensor, "m"]) -> Int[Tensor, "k"]:
        """After a step: `z`, the vectors that were quantised, and `ids`, their codes, are those of all processes, in one
        order. Returns the codes that restarted; what was kept of these is void."""
        self.window += torch.bincount(ids, minlength=self.size)
        if self.window.sum() >= 10 * self.size:
            self.whole.copy_(self.window)
            self.window.zero_()
        return ids[:0]

    def counts(self) -> Float[Tensor, "v"]:
        """Tokens per code over the last ten tokens a code, or over the fewer that there were so far."""
        return self.whole if bool(self.whole.any()) else self.window


class AveragedCodebook(Codebook):
    """Rows that follow their vectors. `seed` starts them from data; `update` moves them."""

    book: Tensor
    total: Tensor
    count: Tensor
    age: Tensor
    updates: Tensor

    def __init__(self, config: Averages, codes: int, dim: int, commitment: float) -> None:
        super().__init__(codes, dim, commitment)
        self.config = config
        self.register_buffer("book", F.normalize(torch.randn(codes, dim), dim=-1))
        self.register_buffer("total", self.book.clone())
        self.register_buffer("count", torch.ones(codes))
        self.register_buffer("age", torch.zeros(codes, dtype=torch.long))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    def rows(self) -> Float[Tensor, "v d"]:
        return self.book

    @torch.no_grad()
    def seed(self, vectors: Float[Tensor, "m d"], rounds: int = 10) -> None:
        """Start from the means of clusters of these vectors.

        Raises:
            ValueError: there are fewer vectors than codes.
        """
        self.book.copy_(spherical_means(vectors.to(self.book), self.size, rounds))
        self.total.copy_(self.book)
        self.count.fill_(1.0)
        self.age.zero_()

    @torch.no_grad()
    def update(self, z: Float[Tensor, "m d"], ids: Int[Tensor, "m"]) -> Int[Tensor, "k"]:
        """Move the codes to their vectors, and dead ones elsewhere."""
        super().update(z, ids)
        z = F.normalize(z.to(self.book), dim=-1)
        # Counts are kept in units of the mean count, so that no threshold depends on the batch. Rows are directions,
        # so sums need neither division by counts nor smoothing of them.
        unit = len(z) / self.size
        self.count.lerp_(torch.bincount(ids, minlength=self.size) / unit, 1 - self.config.decay)
        self.total.lerp_(torch.zeros_like(self.total).index_add_(0, ids, z) / unit, 1 - self.config.decay)
        self.age += 1
        self.updates += 1
        rules = self.config.restarts
        dead = (self.count < rules.below) & (self.age > rules.age)
        chosen = dead.nonzero().flatten()
        if len(chosen):
            # One generator per update: all processes choose alike, and a resumed run as the one that was not cut off.
            generator = torch.Generator().manual_seed(int(self.updates))
            picks = torch.randint(len(z), (len(chosen),), generator=generator).to(z.device)
            self.total[chosen], self.count[chosen], self.age[chosen] = z[picks], 1.0, 0
        self.book.copy_(F.normalize(self.total, dim=-1))
        return chosen


class SimCodebook(Codebook):
    """`unit(frozen @ matrix)`; the matrix starts as the identity."""

    frozen: Tensor

    def __init__(self, codes: int, dim: int, commitment: float) -> None:
        super().__init__(codes, dim, commitment)
        self.register_buffer("frozen", torch.randn(codes, dim))
        self.matrix = nn.Parameter(torch.eye(dim))

    def rows(self) -> Float[Tensor, "v d"]:
        return F.normalize(self.frozen @ self.matrix, dim=-1)


class SoftCodebook(Codebook):
    """Free rows. The forward value is one code; the gradient is that of the soft choice, to vectors and all rows."""

    def __init__(self, config: IBQ, codes: int, dim: int, commitment: float) -> None:
        super().__init__(codes, dim, commitment)
        self.config = config
        self.weight = nn.Parameter(torch.randn(codes, dim))

    def rows(self) -> Float[Tensor, "v d"]:
        return F.normalize(self.weight, dim=-1)

    @torch.no_grad()
    def seed(self, vectors: Float[Tensor, "m d"], rounds: int = 10) -> None:
        self.weight.copy_(spherical_means(vectors.to(self.weight), self.size, rounds))

    def forward(self, z: Float[Tensor, "... d"]) -> Quantized:
        with torch.autocast(z.device.type, enabled=False):
            z, rows = F.normalize(z.float(), dim=-1), self.rows()
            log_p = (z @ rows.T / self.config.temperature).log_softmax(-1)
            p, ids = log_p.exp(), log_p.argmax(-1)
            through = p @ rows.detach()
            codes = rows[ids] + through - through.detach()  # (onehot + p - sg p) rows, without making onehot
            soft = p @ rows
            mean = p.flatten(0, -2).mean(0)
            spread = -(mean * mean.clamp_min(torch.finfo(mean.dtype).tiny).log()).sum()
            entropy = -(p * log_p).sum(-1).mean() - spread
            loss = _distance(codes, z) + _distance(soft.detach(), z) + self.commitment * _distance(soft, z.detach())
            return Quantized(codes, ids, loss + self.config.entropy * entropy)


def _distance(a: Tensor, b: Tensor) -> Float[Tensor, ""]:
    return (a - b).square().sum(-1).mean()


@torch.no_grad()
def nearest(z: Float[Tensor, "... d"], rows: Float[Tensor, "v d"]) -> Int[Tensor, "..."]:
    """The row of largest product with each vector, the cosine where rows are unit; the first of equals."""
    flat = z.to(rows).reshape(-1, rows.shape[-1])
    with torch.autocast(rows.device.type, enabled=False):  # half precision confuses neighbouring codes
        return torch.cat([(chunk @ rows.T).argmax(-1) for chunk in flat.split(CHUNK_ROWS)]).view(z.shape[:-1])


def spherical_means(vectors: Float[Tensor, "m d"], count: int, rounds: int = 10) -> Float[Tensor, "v d"]:
    """k-means by cosine, from randomly chosen vectors; a cluster that loses all its vectors keeps its direction.

    Raises:
        ValueError: there are fewer vectors than clusters.
    """
    if len(vectors) < count:
        raise ValueError(f"{len(vectors)} vectors make no {count} clusters; collect more before the codebook starts")
    vectors = F.normalize(vectors.float(), dim=-1)
    order = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(0)).to(vectors.device)
    means = vectors[order[:count]]
    for _ in range(rounds):
        ids = nearest(vectors, means)
        sums = torch.zeros_like(means).index_add_(0, ids, vectors)
        means = torch.where(sums.norm(dim=-1, keepdim=True) > 0, F.normalize(sums, dim=-1), means)
    return means


def usage(counts: Num[Tensor, "v"]) -> float:
    """Share of the codes that occur. On few tokens it is small for any codebook: count over ten tokens a code."""
    return float((counts > 0).double().mean())


def perplexity(counts: Num[Tensor, "v"]) -> float:
    """How many codes in equal use would be as unpredictable: `exp(-sum p ln p)`, from 1 to the number of codes."""
    return float(torch.special.entr(counts.double() / counts.sum().clamp_min(1)).sum().exp())


def alarm(counts: Float[Tensor, "v"]) -> str | None:
    """One line when the codebook has collapsed: fewer than half of the codes in use, or a perplexity below a fifth."""
    share, spread = usage(counts), perplexity(counts) / len(counts)
    if share >= 0.5 and spread >= 0.2:
        return None
    return (
        f"the codebook uses {share:.0%} of its {len(counts)} codes (perplexity {spread:.2f} of their number); restart "
        "dead codes earlier, quantise later, or use fewer or narrower codes"
    )
