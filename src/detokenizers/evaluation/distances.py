"""Numbers of whole sets: how far the drawn pictures are from the real ones as seen by one network.

Each distance says whose features it needs and whether it needs them picture by picture (rows) or only their moments; an
evaluation keeps no more than the chosen ones ask for.

{decoder: Gathered}, Gathered of the real -Frechet | Kernel | Neighbours-> scores and paired differences
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from .bootstrap import centred, frechet_resamples
from .features import Gathered
from .frechet import frechet
from .kernel import kernel_distance
from .measures import Scores
from .prdc import density_coverage
from .results import Metric, Result, mean_of, measured
from .rules import INCEPTION
from .rules import Protocol as Rules

NAMES = {"dinov2": "DINOv2"}


class How(NamedTuple):
    """What all distances of one report share."""

    protocol: Rules
    paired: bool
    any_n: bool = False
    seed: int = 0
    num_resamples: int = 1000
    frechet_resamples: int = 200
    kernel_subsets: int = 100


class SetReport(NamedTuple):
    """Scores of each decoder, and differences from the first where they can be paired."""

    scores: dict[str, Scores]
    differences: dict[str, Scores]


class Distance(Protocol):
    """One metric of sets."""

    @property
    def name(self) -> str: ...
    @property
    def extractor(self) -> str: ...
    def needs_rows(self, how: How) -> bool: ...
    def report(self, drawn: Mapping[str, Gathered], real: Gathered, how: How) -> SetReport: ...


@dataclass(frozen=True)
class Frechet:
    """The Fréchet distance; it is called FID only where the protocol says so."""

    name: str
    extractor: str

    def needs_rows(self, how: How) -> bool:
        """Only for the interval."""
        return how.frechet_resamples > 0

    def report(self, drawn: Mapping[str, Gathered], real: Gathered, how: How) -> SetReport:
        """Distances; with resamples, intervals and paired differences too."""
        n = next(iter(drawn.values())).moments.count
        key, metric, tag = how.protocol.metric(self.extractor, n, paired=how.paired, any_n=how.any_n)
        metric = metric._replace(label=metric.label.replace(self.extractor, NAMES.get(self.extractor, self.extractor)))
        values = {name: frechet(seen.moments, real.moments) for name, seen in drawn.items()}
        first = next(iter(drawn))
        if not how.frechet_resamples:
            gaps = {
                name: {key: measured(metric, value - values[first], tag=tag)}
                for name, value in values.items()
                if name != first
            }
            return SetReport({name: {key: measured(metric, value, tag=tag)} for name, value in values.items()}, gaps)
        other = real.rows if how.paired else real.moments
        again = {
            name: frechet_resamples(seen.rows, other, num_resamples=how.frechet_resamples, seed=how.seed)
            for name, seen in drawn.items()
        }
        scores = {
            name: {key: measured(metric, value, centred(again[name], value), tag=tag)} for name, value in values.items()
        }
        gaps: dict[str, Scores] = {}
        for name, value in values.items():
            if name != first:
                gap = value - values[first]
                bounds = centred(again[name] - again[first], gap)
                gaps[name] = {key: measured(metric, gap, bounds, tag=tag)}
        return SetReport(scores, gaps)


@dataclass(frozen=True)
class Kernel:
    """KID, or KD-<net> on another net: without bias at any N, so the one to trust below a few thousand pictures."""

    name: str
    extractor: str

    def needs_rows(self, how: How) -> bool:
        """Always."""
        return True

    def report(self, drawn: Mapping[str, Gathered], real: Gathered, how: How) -> SetReport:
        """Mean over subsets of at most 1,000, with their spread."""
        kid = self.extractor == INCEPTION
        shown = NAMES.get(self.extractor, self.extractor)
        metric = Metric("KID" if kid else f"KD-{shown}", "lower")
        key = "kid" if kid else f"kd_{self.extractor}"

        def score(rows: Gathered) -> Result:
            size = min(1000, len(real.rows), len(rows.rows))
            found = kernel_distance(
                real.rows, rows.rows, num_subsets=how.kernel_subsets, subset_size=size, seed=how.seed
            )
            subsets = {"number": how.kernel_subsets, "size": size}
            return measured(metric, found.value, spread=found.spread, subsets=subsets)

        return SetReport({name: {key: score(seen)} for name, seen in drawn.items()}, {})


@dataclass(frozen=True)
class Neighbours:
    """Density and coverage with the protocol's k."""

    name: str
    extractor: str
    labelled: bool = False
    """Whether the network is part of the label; it is not where it is the protocol's own."""

    def needs_rows(self, how: How) -> bool:
        """Always."""
        return True

    def report(self, drawn: Mapping[str, Gathered], real: Gathered, how: How) -> SetReport:
        """Both, with intervals over drawn and over real pictures; density also as a paired difference."""
        shown = f"-{NAMES.get(self.extractor, self.extractor)}" if self.labelled else ""
        keys = [word + shown.replace("-", "_").lower() for word in ("density", "coverage")]
        metrics = [Metric(word + shown, "higher") for word in ("density", "coverage")]
        near = {name: density_coverage(real.rows, seen.rows, how.protocol.neighbours) for name, seen in drawn.items()}

        def scores(columns: tuple[object, ...]) -> Scores:
            return {
                key: mean_of(metric, column, how.num_resamples, how.seed)  # pyright: ignore[reportArgumentType]
                for key, metric, column in zip(keys, metrics, columns)
            }

        first = next(iter(drawn))
        gaps = {
            name: scores((one.density - near[first].density, one.coverage - near[first].coverage))
            for name, one in near.items()
            if name != first and len(one.density) == len(near[first].density)
        }
        return SetReport({name: scores(one) for name, one in near.items()}, gaps)
