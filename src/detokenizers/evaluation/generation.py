"""prompt -> tokens -> image: do the drawn images look like real ones as a set, and do they show what was asked for?

Every decoder draws from the same tokens with the same seeds, so their agreement with the prompts is compared in pairs.
There is no original to compare with; the reference is a set of real images seen through the same extractor.

tokens -each decoder-> images -features | judge-> FD, KID, density, coverage, agreement, each with an interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from .bootstrap import LEVEL, centred, frechet_resamples, interval
from .features import Batches, Extractor, Features, Ids, item_seed
from .frechet import frechet
from .kernel import kernel_distance
from .pairwise import canonical
from .prdc import density_coverage
from .reconstruction import Decoder
from .results import Metric, Result, mean_of, measured, provenance
from .world_judge import Asked, Verdict, WorldJudge, agreement

T = TypeVar("T")


def generation(
    batches: Batches[T],
    decoders: Mapping[str, Decoder],
    extractor: Extractor,
    reference: Features,
    *,
    judge: WorldJudge | None = None,
    asked: Mapping[str, Asked] | None = None,
    seed: int = 0,
    neighbours: int = 5,
    num_subsets: int = 100,
    subset_size: int | None = None,
    num_resamples: int = 1000,
    num_frechet_resamples: int = 200,
    settings: Mapping[str, Any] | None = None,
) -> Result:
    """Draw every item with every decoder, compare the sets with real images and the images with their prompts.

    Args:
        batches: ids and whatever the decoders read (tokens; or images with decoders that pass them through).
        decoders: name -> `decoder(item, seeds=[...]) -> images`; the first is the baseline of the paired differences.
        reference: `collect(real_images, extractor)`.
        judge, asked: for prompt agreement on the embedded world; `asked` maps ids to parsed captions.
        neighbours: k of density and coverage.
        subset_size: images per KID subset; the smaller of 1000 and either set unless given.

    Returns:
        JSON-ready: `n`, `n_reference`, `ids`, `decoders` {name: {"metrics", "agreement"}}, `differences`, provenance.
    """
    if not decoders:
        raise ValueError("there is no decoder to evaluate")
    if reference.extractor != extractor.identity:
        raise ValueError(
            f"the reference was seen by {reference.extractor}, the images are seen by {extractor.identity}"
        )
    if (judge is None) != (asked is None):
        raise ValueError("prompt agreement needs both a judge and what the prompts ask for")
    known = Ids()
    drawn = {name: Features(extractor.identity) for name in decoders}
    verdicts: dict[str, list[Verdict]] = {name: [] for name in decoders}
    for ids, item in batches:
        known.add(ids)
        for name, decoder in decoders.items():
            with torch.no_grad():
                images = canonical(decoder(item, seeds=[item_seed(seed, id) for id in ids]))
            drawn[name].add(ids, extractor.features(images))
            if judge is not None and asked is not None:
                verdicts[name] += judge(images, [lookup(asked, id) for id in ids])
    ids = list(known.seen)
    if len(ids) < 2:
        raise ValueError(f"a set of drawn images has at least two, got {len(ids)}")

    real, moments = reference.rows, reference.moments()
    subset_size = subset_size or min(1000, len(ids), len(real))
    resamples = {
        name: frechet_resamples(seen.rows, moments, num_resamples=num_frechet_resamples, seed=seed)
        for name, seen in drawn.items()
    }
    distances = {name: frechet(seen.moments(), moments) for name, seen in drawn.items()}
    baseline = next(iter(decoders))
    fd, fd_metric = f"fd_{extractor.name}", Metric(f"FD-{extractor.name}", "lower")

    def scores(name: str) -> Result:
        rows = drawn[name].rows
        kid = kernel_distance(real, rows, num_subsets=num_subsets, subset_size=subset_size, seed=seed)
        near = density_coverage(real, rows, neighbours)
        metrics = {
            fd: measured(fd_metric, distances[name], centred(resamples[name], distances[name])),
            f"kd_{extractor.name}": measured(Metric(f"KD-{extractor.name}", "lower"), kid.value, spread=kid.spread),
            "density": mean_of(Metric("density", "higher"), near.density, num_resamples, seed),
            "coverage": mean_of(Metric("coverage", "higher"), near.coverage, num_resamples, seed),
        }
        return {"metrics": metrics, "agreement": agreement(verdicts[name]) if judge else None}

    def difference(name: str) -> Result:
        gap = distances[name] - distances[baseline]
        metrics = {fd: measured(fd_metric, gap, centred(resamples[name] - resamples[baseline], gap))}
        pairs = [
            float(a.correct) - float(b.correct)
            for a, b in zip(verdicts[name], verdicts[baseline], strict=True)
            if a.correct is not None and b.correct is not None
        ]
        if len(pairs) >= 2:
            values: Float[Tensor, "n"] = torch.tensor(pairs, dtype=torch.float64)
            bounds = interval(values, num_resamples=num_resamples, seed=seed)
            metrics["agreement"] = measured(Metric("agreement", "higher"), values.mean().item(), bounds, n=len(pairs))
        return {"metrics": metrics}

    return {
        "kind": "generation",
        "n": len(ids),
        "n_reference": len(real),
        "seed": seed,
        "neighbours": neighbours,
        "kernel_subsets": {"number": num_subsets, "size": subset_size},
        "intervals": {"level": LEVEL, "resamples": num_resamples, "frechet_resamples": num_frechet_resamples},
        "extractor": extractor.identity,
        "quantisation": "round to uint8 before every metric",
        **provenance(extractor.device, settings or {}),
        "decoders": {name: scores(name) for name in decoders},
        "differences": {f"{name} - {baseline}": difference(name) for name in decoders if name != baseline},
        "ids": ids,
    }


def lookup(asked: Mapping[str, Asked], id: str) -> Asked:
    """What one image should show; it is an error if nobody says."""
    if id not in asked:
        raise ValueError(f"nothing says what the image {id!r} should show; every image needs its parsed caption")
    return asked[id]
