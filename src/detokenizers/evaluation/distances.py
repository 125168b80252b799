"""Numbers of whole sets: how far the drawn pictures are from the real ones in the features of one network.

Each distance names the network whose features it needs, and whether it needs them picture by picture (rows) or only
their moments; an evaluation keeps no more than the chosen ones ask for.

{decoder: Gathered}, Gathered of the real -Frechet | Kernel | Neighbours-> scores and paired differences
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from .bootstrap import centred, frechet_resamples
from .features import Gathered
from .frechet import frechet
from .kernel import kernel_distance
from .measures import Scores
from .prdc import density_coverage
from .results import Metric, Result, mean_of, measured
from .rules import INCEPTION, Rules

NAMES = {"dinov2": "DINOv2"}


class How(NamedTuple):
    """What all distances of one report share."""

    rules: Rules
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
    @property
    def from_moments(self) -> bool:
        """Whether the moments of the reference are enough."""
        ...

    def needs_rows(self, how: How) -> bool: ...
    def report(self, drawn: Mapping[str, Gathered], real: Gathered, how: How) -> SetReport: ...


@dataclass(frozen=True)
class Frechet:
    """The Fréchet distance; it is called FID only where the protocol allows it."""

    name: str
    extractor: str
    from_moments = True

    def needs_rows(self, how: How) -> bool:
        """Only for the interval."""
        return how.frechet_resamples > 0

    def report(self, drawn: Mapping[str, Gathered], real: Gathered, how: How) -> SetReport:
        """Distances; with resamples, intervals and paired differences too."""
        first = next(iter(drawn))
        n = drawn[first].moments.count
        key, metric, tag = how.rules.metric(self.extractor, n, paired=how.paired, any_n=how.any_n)
        metric = metric._replace(label=metric.label.replace(self.extractor, NAMES.get(self.extractor, self.extractor)))
        again: dict[str, Tensor] = {}
        if how.frechet_resamples:
            other = real.rows if how.paired else real.moments
            again = {
                name: frechet_resamples(one.rows, other, num_resamples=how.frechet_resamples, seed=how.seed)
                for name, one in drawn.items()
            }

        def score(value: float, resamples: Tensor | None) -> Scores:
            return {key: measured(metric, value, None if resamples is None else centred(resamples, value), tag=tag)}

        values = {name: frechet(one.moments, real.moments) for name, one in drawn.items()}
        gaps = {
            name: score(value - values[first], again[name] - again[first] if again else None)
            for name, value in values.items()
            if name != first
        }
        return SetReport({name: score(value, again.get(name)) for name, value in values.items()}, gaps)


@dataclass(frozen=True)
class Kernel:
    """KID, or KD-<net> on another net: without bias at any N, so the one to trust below a few thousand pictures."""

    name: str
    extractor: str
    from_moments = False

    def needs_rows(self, how: How) -> bool:
        """Always."""
        return True

    def report(self, drawn: Mapping[str, Gathered], real: Gathered, how: How) -> SetReport:
        """Mean over subsets of at most 1,000, with their spread."""
        kid = self.extractor == INCEPTION
        metric = Metric("KID" if kid else f"KD-{NAMES.get(self.extractor, self.extractor)}", "lower")
        key = "kid" if kid else f"kd_{self.extractor.replace('-', '_')}"

        def score(one: Gathered) -> Result:
            size = min(1000, len(real.rows), len(one.rows))
            found = kernel_distance(
                real.rows, one.rows, num_subsets=how.kernel_subsets, subset_size=size, seed=how.seed
            )
            subsets = {"number": how.kernel_subsets, "size": size}
            return measured(metric, found.value, spread=found.spread, subsets=subsets)

        return SetReport({name: {key: score(one)} for name, one in drawn.items()}, {})


@dataclass(frozen=True)
class Neighbours:
    """Density and coverage with the protocol's k."""

    name: str
    extractor: str
    labelled: bool = False
    """Whether the network is part of the label; it is not where it is the protocol's own."""
    from_moments = False

    def needs_rows(self, how: How) -> bool:
        """Always."""
        return True

    def report(self, drawn: Mapping[str, Gathered], real: Gathered, how: How) -> SetReport:
        """Both, with intervals over drawn and over real pictures; as paired differences where the numbers agree."""
        label = f"-{NAMES.get(self.extractor, self.extractor)}" if self.labelled else ""
        metrics = [Metric(word + label, "higher") for word in ("density", "coverage")]
        near = {name: density_coverage(real.rows, one.rows, how.rules.neighbours) for name, one in drawn.items()}

        def scores(*columns: Tensor) -> Scores:
            return {
                metric.label.replace("-", "_").lower(): mean_of(metric, column, how.num_resamples, how.seed)
                for metric, column in zip(metrics, columns)
            }

        first = near[next(iter(drawn))]
        gaps = {
            name: scores(one.density - first.density, one.coverage - first.coverage)
            for name, one in near.items()
            if one is not first and len(one.density) == len(first.density)
        }
        return SetReport({name: scores(*one) for name, one in near.items()}, gaps)
