"""Statistics of real pictures as a file: made once, checked whenever a number is measured against them.

Ours say who looked, under which protocol, at how many pictures, and the hash of those pictures. Published .npz files
(`mu`, `sigma`) say nothing of this; they are taken for TF-Inception's, and only where the protocol has it look.

Gathered -save_reference-> STATS.safetensors | published .npz -load_reference-> Reference(moments, n, hash)
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from .features import Extractor
from .moments import Moments
from .results import Result
from .rules import INCEPTION, Protocol

ROUNDING = 1e-5
"""What saving in float32 may do to a covariance, relative to its size."""


@dataclass(frozen=True)
class Reference:
    """Moments of real pictures and where they come from."""

    moments: Moments
    about: Result
    """For results.json: kind, n, hash."""


def save_reference(path: Path, moments: Moments, protocol: Protocol, digest: str) -> None:
    """Write the statistics of a reference, with what they may be used for."""
    moments.save(path, protocol=protocol.model_dump(mode="json"), hash=digest)


def load_reference(path: Path, protocol: Protocol, extractor: Extractor) -> Reference:
    """Read statistics that fit this protocol and this network.

    Raises:
        ValueError: they were made under other rules or by another network, or the file is none of statistics.
    """
    if not path.is_file():
        raise ValueError(f"there is no reference at {path}; give a folder of pictures or a file of statistics")
    if path.suffix.lower() == ".npz":
        return _published(path, protocol, extractor)
    moments = Moments.load(path)
    _require_gaussian(path, moments, extractor)
    with safe_open(path, framework="pt") as file:
        notes = json.loads((file.metadata() or {})["notes"])
    made = notes.get("protocol", {})
    theirs = f"{made.get('name', 'unknown')} v{made.get('version', '?')}"
    if rules(made) != rules(protocol.model_dump(mode="json")):
        raise ValueError(
            f"{path} was made under the protocol {theirs}, not {protocol.name} v{protocol.version} as this evaluation "
            "runs; make it again with --save-reference and the same --protocol"
        )
    if moments.extractor != extractor.identity:
        raise ValueError(
            f"{path} was seen by {moments.extractor}, and the pictures are seen by {extractor.identity}; "
            "make it again with the same network"
        )
    require_hash(notes.get("hash"), protocol, str(path))
    return Reference(moments, {"kind": "statistics", "n": moments.count, "hash": notes.get("hash"), "file": str(path)})


def rules(protocol: Result) -> Result:
    """What of a protocol a reference depends on: how originals are read and who looks, not which metrics follow."""
    return {key: protocol.get(key) for key in ("name", "version", "size", "prepare", "look", "ddof")}


def require_hash(digest: str | None, protocol: Protocol, where: str) -> None:
    """Refuse other pictures than the protocol's, where their hash is known."""
    if protocol.reference_hash is not None and digest != protocol.reference_hash:
        raise ValueError(
            f"{where} are not the pictures of the protocol {protocol.name}: their hash is {str(digest)[:16]}…, "
            f"not {protocol.reference_hash[:16]}…"
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


def _published(path: Path, protocol: Protocol, extractor: Extractor) -> Reference:
    if extractor.name != INCEPTION:
        raise ValueError(
            f"{path} is taken for statistics of TF-Inception, but {extractor.name} looks here; "
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
    # The file does not say how many pictures it saw; a count of two makes the scatter the covariance itself.
    moments = Moments(extractor.identity, 2, mean, covariance)
    _require_gaussian(path, moments, extractor)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    require_hash(digest, protocol, str(path))
    return Reference(moments, {"kind": "published npz", "n": None, "hash": digest, "file": str(path)})
