"""Evidence to a result: scores of every decoder with intervals, differences from the first, and how all was made.

Evidence -measures, distances-> {"decoders": {name: metrics, per_image}, "differences": ..., provenance} -> tables
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .agreement import Agreement
from .bootstrap import LEVEL
from .distances import How
from .features import Gathered
from .measures import Scores
from .metrics import Chosen
from .networks import Networks
from .one_pass import TRUTH
from .results import Result, provenance, verdict
from .shards import Evidence

LISTED = 20
"""Ids listed of each kind of trouble; all are counted."""


def report(
    evidence: Evidence,
    drawn: Sequence[str],
    chosen: Chosen,
    real: Mapping[str, Gathered],
    networks: Networks,
    how: How,
    *,
    reference: Result | None = None,
    missing: Mapping[str, Sequence[str]] | None = None,
    settings: Mapping[str, Any] | None = None,
    extra: Mapping[str, Scores] | None = None,
) -> Result:
    """All numbers of one evaluation, JSON-ready.

    Args:
        drawn: the decoders; the first is the baseline of the differences.
        real: what each network saw of the reference.
        reference: where the real pictures come from: kind, n, hash.
        missing: ids that were allowed not to be there, by decoder.
        extra: scores made elsewhere, on the tokens for instance.
    """
    if len(evidence.ids) < 2:
        raise ValueError(f"numbers with intervals need at least two pictures, got {len(evidence.ids)}")
    baseline, decoders, gaps = drawn[0], {}, {name: {} for name in drawn[1:]}
    for name in drawn:
        columns = evidence.columns.get(name, {})
        metrics: Scores = {}
        section = None
        for measure in chosen.measures:
            metrics |= measure.scores(columns, how.num_resamples, how.seed)
            if name != baseline:
                first = evidence.columns[baseline]
                gaps[name] |= measure.differences(columns, first, how.num_resamples, how.seed)
            if isinstance(measure, Agreement):
                section = measure.section(evidence.ids, columns)
        per_image = {key: finite_list(values) for key, values in columns.items()}
        decoders[name] = {"metrics": metrics, "agreement": section, "per_image": per_image}
    for distance in chosen.distances:
        seen = {name: evidence.side(name, distance.extractor) for name in drawn}
        found = distance.report(seen, real[distance.extractor], how)
        for name, scores in found.scores.items():
            decoders[name]["metrics"] |= scores
        for name, scores in found.differences.items():
            gaps[name] |= scores
    for name, scores in (extra or {}).items():
        decoders[name]["metrics"] |= scores
    copies = {side: evidence.copies(side) for side in evidence.digests}
    extractors = {name: networks.extractor(name) for name in chosen.extractors}
    return {
        "kind": "reconstruction" if how.paired else "generation",
        "n": len(evidence.ids),
        **({"n_reference": reference["n"]} if reference else {}),
        "seed": how.seed,
        "protocol": how.protocol.model_dump(mode="json"),
        "reference": reference,
        "intervals": {
            "level": LEVEL,
            "resamples": how.num_resamples,
            "frechet_resamples": how.frechet_resamples,
        },
        "extractors": {name: {"identity": one.identity, "view": one.view} for name, one in extractors.items()},
        "measures": {measure.name: measure.identity(networks) for measure in chosen.measures},
        "hashes": {side: evidence.hash(side) for side in evidence.digests if side != TRUTH},
        "troubles": {
            "missing": {name: listed(ids) for name, ids in (missing or {}).items() if ids},
            "corrupt": {"number": len(evidence.corrupt), **dict(list(evidence.corrupt.items())[:LISTED])}
            if evidence.corrupt
            else {},
            "copies": {side: listed([" = ".join(group) for group in found]) for side, found in copies.items() if found},
        },
        "dtype": "float32 networks, float64 statistics",
        **provenance(networks.device, settings or {}),
        "decoders": decoders,
        "differences": {
            f"{name} - {baseline}": {
                "metrics": {key: {**score, "verdict": verdict(score)} for key, score in scores.items()}
            }
            for name, scores in gaps.items()
        },
        "ids": evidence.ids,
    }


def require_no_copies(evidence: Evidence) -> None:
    """Refuse sets in which a picture is there twice under two names."""
    for side in evidence.digests:
        if groups := evidence.copies(side):
            first, second, *_ = groups[0]
            raise ValueError(
                f"{side} holds {sum(len(group) - 1 for group in groups)} pictures that are alike in every pixel to "
                f"another, e.g. {second!r} to {first!r}; take them out, or --allow copies counts and lists them"
            )


def listed(ids: Sequence[str]) -> Result:
    """How many, and the first of them."""
    return {"number": len(ids), "first": list(ids[:LISTED])}


def finite_list(values: Float[Tensor, "n"]) -> list[float | None]:
    """JSON has no infinity and no NaN: `null` says that two images are identical, or that nobody could tell."""
    return [value if math.isfinite(value) else None for value in torch.as_tensor(values).tolist()]
