"""The reference of an evaluation: real pictures, or a file of their statistics, made once and checked at every use.

Our files hold the network, the protocol, the number of pictures and their hash. Published .npz files (`mu`, `sigma`)
hold none of this; they are taken for TF-Inception's, and only under a protocol that uses it.

Moments -save_moments-> STATS.safetensors | published .npz -load_reference-> Reference(moments, n, hash)
Evidence of one pass | a file of statistics -> Real(features by network, what the report holds of it)
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..checkpoint import notes_in
from .features import Extractor, Gathered
from .metrics import Chosen
from .moments import Moments
from .networks import Networks
from .one_pass import TRUTH
from .results import Result
from .rules import INCEPTION, Rules
from .shards import Evidence

ROUNDING = 1e-5
"""What saving in float32 may do to a covariance, relative to its size."""


class Reference(NamedTuple):
    """Moments of real pictures and where they come from."""

    moments: Moments
    about: Result
    """For results.json: kind, n, hash."""


def save_moments(path: Path, moments: Moments, rules: Rules, digest: str) -> None:
    """Write the statistics of a reference, with what they may be used for."""
    moments.save(path, protocol=rules.model_dump(mode="json"), hash=digest)


def load_reference(path: Path, rules: Rules, extractor: Extractor) -> Reference:
    """Read statistics that fit this protocol and this network.

    Raises:
        ValueError: they were made under other rules or by another network, or the file is none of statistics.
    """
    if not path.is_file():
        raise ValueError(f"there is no reference at {path}; give a folder of pictures or a file of statistics")
    if path.suffix.lower() == ".npz":
        return _published(path, rules, extractor)
    moments = Moments.load(path)
    _require_gaussian(path, moments, extractor)
    notes = notes_in(path)
    made = notes.get("protocol", {})
    theirs = f"{made.get('name', 'unknown')} v{made.get('version', '?')}"
    if binding(made) != binding(rules.model_dump(mode="json")):
        raise ValueError(
            f"{path} was made under the protocol {theirs}, not {rules.name} v{rules.version} as this evaluation "
            "runs; make it again with --save-reference and the same --protocol"
        )
    if moments.extractor != extractor.identity:
        raise ValueError(
            f"{path} holds features of {moments.extractor}, and the pictures' are of {extractor.identity}; "
            "make it again with the same network"
        )
    require_hash(notes.get("hash"), rules, str(path))
    return Reference(moments, {"kind": "statistics", "n": moments.count, "hash": notes.get("hash"), "file": str(path)})


def binding(protocol: Result) -> Result:
    """What of a protocol a reference depends on: how originals are read and resized, not which metrics follow."""
    old = {"resize": protocol.get("look")}  # the name of this setting in files made before 2026-11-25
    return {key: (old | protocol).get(key) for key in ("name", "version", "size", "prepare", "resize", "ddof")}


def require_hash(digest: str | None, rules: Rules, where: str) -> None:
    """Refuse other pictures than the protocol's, where their hash is known."""
    if rules.reference_hash is not None and digest != rules.reference_hash:
        raise ValueError(
            f"{where} are not the pictures of the protocol {rules.name}: their hash is {str(digest)[:16]}…, "
            f"not {rules.reference_hash[:16]}…"
        )


def _require_gaussian(path: Path, moments: Moments, extractor: Extractor) -> None:
    """Refuse statistics that are no mean and covariance, or not of this network's features."""
    mean, scatter = moments.mean, moments.scatter
    assert mean is not None
    assert scatter is not None
    if mean.ndim != 1 or scatter.shape != (len(mean), len(mean)):
        shapes = f"a mean {list(mean.shape)} and a covariance {list(scatter.shape)}"
        raise ValueError(f"{path} holds {shapes}, which do not fit")
    if len(mean) != extractor.width:
        raise ValueError(
            f"{path} holds statistics of {len(mean)} numbers a picture, and {extractor.name} gives {extractor.width}; "
            "they are another network's"
        )
    if moments.count < 2:
        raise ValueError(f"{path} was made from {moments.count} pictures; a covariance needs at least two")
    if not (torch.isfinite(mean).all() and torch.isfinite(scatter).all()):
        raise ValueError(f"{path} holds NaN or infinity; make it again, or download it again")
    if (scatter - scatter.T).abs().max() > ROUNDING * scatter.abs().max():
        raise ValueError(f"{path} holds a covariance that is not symmetric, so it is none; make it again")
    slack = ROUNDING * scatter.diagonal().abs().sum() * torch.eye(len(mean), dtype=scatter.dtype)
    if scatter.any() and torch.linalg.cholesky_ex(scatter + slack).info != 0:
        raise ValueError(f"{path} holds a covariance with negative variances, so it is none; make it again")


def _published(path: Path, rules: Rules, extractor: Extractor) -> Reference:
    if extractor.name != INCEPTION:
        raise ValueError(
            f"{path} is taken for statistics of TF-Inception, but the network here is {extractor.name}; "
            "choose fid and a protocol of Inception, or give the pictures"
        )
    try:
        found = np.load(path, allow_pickle=False)
        if not isinstance(found, np.lib.npyio.NpzFile):
            raise ValueError("it is a single array, an .npy file")
        with found as file:
            mean, covariance = (torch.from_numpy(np.asarray(file[name], np.float64)) for name in ("mu", "sigma"))
    except (OSError, EOFError, KeyError, TypeError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} does not hold `mu` and `sigma` ({' '.join(str(error).split())})") from None
    # The file does not hold the number of pictures; a count of two makes the scatter the covariance itself.
    moments = Moments(extractor.identity, 2, mean, covariance)
    _require_gaussian(path, moments, extractor)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    require_hash(digest, rules, str(path))
    return Reference(moments, {"kind": "published npz", "n": None, "hash": digest, "file": str(path)})


class Real(NamedTuple):
    """The reference of an evaluation: its features by network."""

    gathered: Mapping[str, Gathered]
    about: Result
    """Kind, n and hash, for the report."""


def real_pictures(evidence: Evidence, chosen: Chosen, rules: Rules, *, paired: bool) -> Real:
    """A reference whose pictures were measured; `paired` ones are the originals of the drawn.

    Raises:
        ValueError: they are not the pictures that the protocol names.
    """
    digest = evidence.hash(TRUTH)
    require_hash(digest, rules, "the real pictures")
    gathered = {name: evidence.side(TRUTH, name) for name in chosen.extractors}
    return Real(gathered, {"kind": "originals" if paired else "pictures", "n": len(evidence.ids), "hash": digest})


def real_statistics(path: Path, chosen: Chosen, rules: Rules, networks: Networks) -> Real:
    """A reference that is a file of statistics: one network's, and enough for a Fréchet distance only.

    Raises:
        ValueError: a metric needs more than that, none needs it, or the file does not fit.
    """
    if odd := next((distance for distance in chosen.distances if not distance.from_moments), None):
        raise ValueError(
            f"{odd.name} needs the real pictures themselves, and {path} holds only their statistics; "
            "give the folder, or ask for Fréchet distances alone with --metrics"
        )
    if not chosen.extractors:
        raise ValueError(f"none of the metrics asked for needs the reference {path}; leave it out")
    loaded = {name: load_reference(path, rules, networks.extractor(name)) for name in chosen.extractors}
    about = loaded[chosen.extractors[0]].about
    return Real({name: Gathered(one.moments) for name, one in loaded.items()}, about)
