"""In which order patches are drawn, and how many at a time. Pure integers and scores; nothing here is random by itself.

tokens -order-> score [b n] -ranked(ties)-> permutation [b n] -reveal(rounds)-> (visible, chosen) round by round
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from ..config import Config
from ..protocols import Grid, VisualTokens
from .distributions import ExpectedKL
from .tokenizer import CodedPatches

PATCH_KL = "patch-kl"
"""Under this name `observed` holds the KL divergence of an image's own patches, under each token [b l parts]."""


def round_sizes(patches: int, rounds: int) -> list[int]:
    """How many patches each round draws (MAR's cosine schedule): few at first, every round at least one.

    Raises:
        ValueError: more rounds than patches, or none.
    """
    if not 1 <= rounds <= patches:
        raise ValueError(f"{patches} patches can be drawn in 1 to {patches} rounds, not in {rounds}")
    sizes, masked = [], patches
    for number in range(1, rounds + 1):
        left = math.floor(patches * math.cos(math.pi / 2 * number / rounds))
        left = max(rounds - number, min(masked - 1, left))
        sizes.append(masked - left)
        masked = left
    return sizes


class RasterTies(Config):
    """Equal scores follow the raster: a flat region is drawn by neighbours in one round."""

    kind: Literal["raster"] = "raster"

    def __call__(self, grid: Grid) -> Int[Tensor, "n"]:
        return torch.arange(grid.size)


class ScatteredTies(Config):
    """Equal scores are drawn far apart: bits of row and column are interleaved, then read backwards.

    Patches of one round are drawn independently of each other, so neighbours in one round may not fit (spec 2.3). Bits
    of the raster index alone would fill one column first.
    """

    kind: Literal["scattered"] = "scattered"

    def __call__(self, grid: Grid) -> Int[Tensor, "n"]:
        bits = max(max(grid) - 1, 1).bit_length()
        rows, columns = torch.arange(grid.height)[:, None], torch.arange(grid.width)[None]
        backwards = torch.zeros(tuple(grid), dtype=torch.long)
        for bit in range(bits):  # the lowest bits decide first
            backwards = backwards | ((rows >> bit & 1) << (2 * (bits - bit) - 1))
            backwards = backwards | ((columns >> bit & 1) << (2 * (bits - bit) - 2))
        return backwards.flatten().argsort(stable=True).argsort()


class SeededTies(Config):
    """Equal scores are drawn in one random order, the same for all images."""

    kind: Literal["seeded"] = "seeded"
    seed: int = 0

    def __call__(self, grid: Grid) -> Int[Tensor, "n"]:
        return torch.randperm(grid.size, generator=torch.Generator().manual_seed(self.seed))


Ties = Annotated[RasterTies | ScatteredTies | SeededTies, Field(discriminator="kind")]


class CodewordKL(Config):
    """The paper's: patches whose codewords have few nats of KL divergence first. The running mean needs no image."""

    kind: Literal["codeword_kl"] = "codeword_kl"

    def __call__(self, codes: CodedPatches, tokens: VisualTokens, seeds: Sequence[int]) -> Float[Tensor, "b n"]:
        return codes.layout.by_patch(codes.codewords.lookup(codes.codewords.kl, tokens.ids))


class CodewordVariance(Config):
    """Ours: codewords whose patches differ least first. Where the KL measures brightness, this measures texture."""

    kind: Literal["codeword_variance"] = "codeword_variance"

    def __call__(self, codes: CodedPatches, tokens: VisualTokens, seeds: Sequence[int]) -> Float[Tensor, "b n"]:
        return codes.layout.by_patch(codes.codewords.lookup(codes.codewords.variance, tokens.ids))


class PosteriorKL(Config):
    """An oracle: the KL divergence of the image's own patches, which only reconstruction has (contradiction C5)."""

    kind: Literal["posterior_kl"] = "posterior_kl"

    def __call__(self, codes: CodedPatches, tokens: VisualTokens, seeds: Sequence[int]) -> Float[Tensor, "b n"]:
        observed = tokens.observed or {}
        if PATCH_KL not in observed:
            raise ValueError("the posterior order needs the image; tokens that a model sampled have codeword_kl")
        return codes.layout.by_patch(observed[PATCH_KL])


class AtRandom(Config):
    """An order of its own for every seed."""

    kind: Literal["random"] = "random"

    def __call__(self, codes: CodedPatches, tokens: VisualTokens, seeds: Sequence[int]) -> Float[Tensor, "b n"]:
        # Away from the numbers that the noise of the same seed starts with.
        generators = [torch.Generator().manual_seed(seed ^ 0x5EED0DE5) for seed in seeds]
        return torch.stack([torch.rand(codes.layout.patches.size, generator=one) for one in generators])


class Raster(Config):
    """Row by row."""

    kind: Literal["raster"] = "raster"

    def __call__(self, codes: CodedPatches, tokens: VisualTokens, seeds: Sequence[int]) -> Float[Tensor, "b n"]:
        return torch.arange(float(codes.layout.patches.size)).expand(len(tokens.ids), -1)


Score = Annotated[
    CodewordKL | CodewordVariance | PosteriorKL | ExpectedKL | AtRandom | Raster, Field(discriminator="kind")
]


class Order(Config):
    """A score, and what decides between equal ones; ties are the rule, since every repeat of a code has one score."""

    score: Score = CodewordKL()
    ties: Ties = ScatteredTies()
    descending: bool = False
    """The hardest first: the control of an order."""

    def __call__(self, codes: CodedPatches, tokens: VisualTokens, seeds: Sequence[int]) -> Int[Tensor, "b n"]:
        """Patches in the order of drawing."""
        score = self.score(codes, tokens, seeds)
        return ranked(-score if self.descending else score, self.ties(codes.layout.patches))


def ranked(score: Float[Tensor, "b n"], ties: Int[Tensor, "n"]) -> Int[Tensor, "b n"]:
    """Patches by ascending score; those of equal score by ascending tie rank."""
    by_tie = ties.argsort().to(score.device)
    return by_tie[score[:, by_tie].argsort(dim=-1, stable=True)]


class Round(NamedTuple):
    """Patches that are drawn already, and those that this round draws."""

    visible: Int[Tensor, "b done"]
    chosen: Int[Tensor, "b new"]


def reveal(order: Int[Tensor, "b n"], rounds: int) -> Iterator[Round]:
    """Cut one order into rounds; the lowest remaining score is a slice of it, since all tokens are known."""
    done = 0
    for size in round_sizes(order.shape[1], rounds):
        yield Round(order[:, :done], order[:, done : done + size])
        done += size


class ConstantWeight(Config):
    """The same guidance weight in every round, as comparisons of orders need: a growing one favours late patches."""

    kind: Literal["constant"] = "constant"
    weight: float = 1.5

    def __call__(self, revealed: int, patches: int) -> float:
        return self.weight


class LinearWeight(Config):
    """From 1 to the full weight with the share of patches known after the round (MAR's)."""

    kind: Literal["linear"] = "linear"
    weight: float = 1.5

    def __call__(self, revealed: int, patches: int) -> float:
        return 1 + (self.weight - 1) * revealed / patches


GuidanceWeight = Annotated[ConstantWeight | LinearWeight, Field(discriminator="kind")]


def num_masked(patches: int, ratio: float) -> int:
    """Patches hidden at a masking ratio, rounded up: with the paper's floor the state that every drawing starts from,
    all hidden, would never be trained (contradiction C4)."""
    return min(patches, math.ceil(ratio * patches))
