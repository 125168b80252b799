"""The reference of an evaluation, as the chosen networks saw it: from its pictures, or from a file of their statistics.

Evidence of one pass | statistics.safetensors, .npz -> Real(what each network gathered, what the report says of it)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from . import metrics
from .features import Gathered
from .networks import Networks
from .one_pass import TRUTH
from .references import load_reference, require_hash
from .results import Result
from .rules import Protocol
from .shards import Evidence


class Real(NamedTuple):
    """The reference as the chosen networks saw it."""

    gathered: Mapping[str, Gathered]
    about: Result
    """Kind, n and hash, for the report."""


def real_pictures(evidence: Evidence, chosen: metrics.Chosen, protocol: Protocol, *, paired: bool) -> Real:
    """A reference whose pictures were looked at; `paired` ones are the originals of the drawn.

    Raises:
        ValueError: they are not the pictures that the protocol names.
    """
    digest = evidence.hash(TRUTH)
    require_hash(digest, protocol, "the real pictures")
    gathered = {name: evidence.side(TRUTH, name) for name in chosen.extractors}
    return Real(gathered, {"kind": "originals" if paired else "pictures", "n": len(evidence.ids), "hash": digest})


def real_statistics(path: Path, chosen: metrics.Chosen, protocol: Protocol, networks: Networks) -> Real:
    """A reference that is a file of statistics: one network's, and enough for a Fréchet distance only.

    Raises:
        ValueError: a metric needs more than that, none needs it, or the file does not fit.
    """
    for distance in chosen.distances:
        if not isinstance(distance, metrics.Frechet):
            raise ValueError(
                f"{distance.name} needs the real pictures themselves, and {path} holds only their statistics; "
                "give the folder, or ask for Fréchet distances alone with --metrics"
            )
    if not chosen.extractors:
        raise ValueError(f"none of the metrics asked for looks at the reference {path}; leave it out")
    loaded = {name: load_reference(path, protocol, networks.extractor(name)) for name in chosen.extractors}
    about = loaded[chosen.extractors[0]].about
    return Real({name: Gathered(one.moments) for name, one in loaded.items()}, about)
