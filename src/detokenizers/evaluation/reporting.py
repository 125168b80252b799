"""From evidence to a report: scores of every decoder with intervals, differences from the first, and how all was made.

Evidence -measures, distances-> {"decoders": {name: metrics, per_image}, "differences": ..., provenance} -> Report
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..checkpoint import write_text
from ..data.images import save_png
from ..data.marks import EVALUATION, MARK, RESULTS, TABLE, require_ours
from ..pixels import to_tensor
from .bootstrap import LEVEL
from .distances import How
from .features import Gathered
from .measures import Scores
from .metrics import Chosen
from .networks import Networks
from .one_pass import TRUTH
from .results import Result, provenance, verdict
from .shards import Evidence
from .sheets import contact_sheet
from .sides import FolderSide, SceneSide
from .tables import markdown

LISTED = 20
"""Ids listed of each kind of trouble; all are counted."""
SHOWN = 8
"""Pictures on the contact sheet."""


@dataclass(frozen=True)
class Report:
    """All numbers of an evaluation or a benchmark, and how they are written."""

    numbers: Result
    """What results.json holds."""
    folder: Path
    """Where `save` writes unless it is given another."""
    sides: Mapping[str, FolderSide | SceneSide] = field(default_factory=dict, repr=False)
    """The pictures behind the contact sheet."""

    @property
    def decoders(self) -> dict[str, Scores]:
        """The metrics of each decoder: value, low, high, ..."""
        return {name: entry["metrics"] for name, entry in self.numbers["decoders"].items()}

    def table(self) -> str:
        """The report as Markdown."""
        return markdown(self.numbers)

    def save(self, folder: str | Path | None = None) -> Path | None:
        """Write results.json, results.md and the contact sheet evaluation.png, each whole or not at all.

        Returns:
            The sheet; None where other programs would find it among the pictures, or there are none to show.
        """
        out = Path(folder or self.folder)
        require_ours(out, RESULTS)
        write_report(out, self.numbers, self.table())
        if not self.sides or any({out.resolve(), *out.resolve().parents} & side.roots for side in self.sides.values()):
            return None
        ids = self.numbers["ids"][:SHOWN]
        columns = {
            name: [to_tensor(np.asarray(side.read(id))[None]) for id in ids] for name, side in self.sides.items()
        }
        alike = {name: torch.cat(column) for name, column in columns.items() if len({one.shape for one in column}) == 1}
        note = f"the first {len(ids)} of {len(self.numbers['ids'])}"
        save_png(out / EVALUATION, contact_sheet(ids, alike, note=note), MARK)
        return out / EVALUATION


def write_report(out: Path, numbers: Result, table: str) -> None:
    """Write results.json and results.md."""
    write_text(out / RESULTS, json.dumps(numbers, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(out / TABLE, table)


def numbers_of(
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
        real: the features of the reference by network.
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
        for measure in chosen.measures:
            metrics |= measure.scores(columns, how.num_resamples, how.seed)
            if name != baseline:
                first = evidence.columns[baseline]
                gaps[name] |= measure.differences(columns, first, how.num_resamples, how.seed)
        decoders[name] = {
            "metrics": metrics,
            "agreement": next(
                (found for one in chosen.measures if (found := one.section(evidence.ids, columns))), None
            ),
            "per_image": {key: finite_list(values) for key, values in columns.items()},
        }
    for distance in chosen.distances:
        gathered = {name: evidence.side(name, distance.extractor) for name in drawn}
        found = distance.report(gathered, real[distance.extractor], how)
        for name, scores in found.scores.items():
            decoders[name]["metrics"] |= scores
        for name, scores in found.differences.items():
            gaps[name] |= scores
    for name, scores in (extra or {}).items():
        decoders[name]["metrics"] |= scores
    copies = {side: evidence.copies(side) for side in evidence.digests}
    extractors = {name: networks.extractor(name) for name in chosen.extractors}
    corrupt = evidence.corrupt
    return {
        "kind": "reconstruction" if how.paired else "generation",
        "n": len(evidence.ids),
        **({"n_reference": reference["n"]} if reference else {}),
        "seed": how.seed,
        "protocol": how.rules.model_dump(mode="json"),
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
            "corrupt": {"number": len(corrupt), **dict(list(corrupt.items())[:LISTED])} if corrupt else {},
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
    """JSON has no infinity and no NaN: `null` means that two images are identical, or that there is no verdict."""
    return [value if math.isfinite(value) else None for value in torch.as_tensor(values).tolist()]
