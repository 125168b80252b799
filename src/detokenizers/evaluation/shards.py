"""Measurements of a run of pictures, as one file: enough for every chosen metric, and keyed by id.

A shard is written whole or not at all and carries the fingerprint of all it depends on. One made from other files or
settings is not merged; it is measured again. Merging goes in the order of the shards, whichever process made them.

Shard -save-> shards/NAME-00000.safetensors -load-> Shard -merge-> Evidence (ids, columns, Gathered by side and net)
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from ..checkpoint import notes_in, save_tensors
from .features import Gathered
from .measures import Columns
from .moments import Moments


@dataclass
class Shard:
    """One run of pictures, measured."""

    key: str
    ids: list[str] = field(default_factory=list)
    corrupt: dict[str, str] = field(default_factory=dict)
    """What could not be read, and why, where that is allowed."""
    digests: dict[str, list[bytes]] = field(default_factory=dict)
    """sha256 of the pixels of every picture as it was measured, by side."""
    columns: dict[str, dict[str, list[Tensor]]] = field(default_factory=dict)
    rows: dict[tuple[str, str], Float[Tensor, "n f"]] = field(default_factory=dict)
    """By side and network."""
    moments: dict[tuple[str, str], Moments] = field(default_factory=dict)
    extractors: dict[str, str] = field(default_factory=dict)

    def add(self, side: str, columns: Columns) -> None:
        """Take in a batch's values."""
        for key, values in columns.items():
            self.columns.setdefault(side, {}).setdefault(key, []).append(values.double().cpu())

    def keep(self, side: str, name: str, rows: Float[Tensor, "n f"], identity: str, *, as_rows: bool) -> None:
        """Keep features, or their moments only; fewer rows than numbers in one are smaller than a scatter matrix."""
        self.extractors[name] = identity
        if as_rows or rows.shape[0] <= rows.shape[1]:
            self.rows[side, name] = rows
        else:
            self.moments[side, name] = Moments.of(rows, identity)

    def save(self, path: Path) -> None:
        """Write it, atomically."""
        tensors = {
            f"column/{side}/{key}": torch.cat(parts)
            for side, columns in self.columns.items()
            for key, parts in columns.items()
        }
        tensors |= {f"rows/{side}/{name}": rows for (side, name), rows in self.rows.items()}
        counts: dict[str, int] = {}
        for (side, name), moments in self.moments.items():
            assert moments.mean is not None
            assert moments.scatter is not None
            tensors |= {f"mean/{side}/{name}": moments.mean, f"scatter/{side}/{name}": moments.scatter}
            counts[f"{side}/{name}"] = moments.count
        tensors |= {
            f"digest/{side}": torch.frombuffer(bytearray(b"".join(column)), dtype=torch.uint8).view(-1, 32)
            for side, column in self.digests.items()
        }
        notes = {"key": self.key, "ids": self.ids, "corrupt": self.corrupt, "extractors": self.extractors}
        save_tensors(path, tensors, notes=json.dumps(notes | {"counts": counts}))

    @classmethod
    def load(cls, path: Path) -> Shard:
        """Read it back; not being able to is an error of the file's."""
        notes, tensors = notes_in(path), load_file(path)
        shard = cls(notes["key"], notes["ids"], notes["corrupt"], extractors=notes["extractors"])
        for name, tensor in tensors.items():
            kind, rest = name.split("/", 1)
            side, _, last = rest.rpartition("/")
            if kind == "column":
                shard.columns.setdefault(side, {})[last] = [tensor]
            elif kind == "rows":
                shard.rows[side, last] = tensor
            elif kind == "digest":
                shard.digests[rest] = [row.numpy().tobytes() for row in tensor]
            elif kind == "mean":
                identity, scatter = shard.extractors[last], tensors[f"scatter/{rest}"]
                shard.moments[side, last] = Moments(identity, notes["counts"][rest], tensor, scatter)
        return shard


def key_in(path: Path) -> str | None:
    """The fingerprint a shard on disk was made under; None for none, or a file that is no shard."""
    try:
        return notes_in(path).get("key")
    except ValueError:
        return None


@dataclass
class Evidence:
    """All shards of a pass together."""

    ids: list[str]
    corrupt: dict[str, str]
    digests: dict[str, list[bytes]]
    columns: dict[str, Columns]
    gathered: dict[tuple[str, str], Gathered]
    """By side and network."""

    def side(self, name: str, extractor: str) -> Gathered:
        """The features of one side by one network."""
        return self.gathered[name, extractor]

    def copies(self, side: str) -> list[list[str]]:
        """Ids of pictures that are alike in every pixel."""
        groups: dict[bytes, list[str]] = {}
        for id, digest in zip(self.ids, self.digests.get(side, [])):
            groups.setdefault(digest, []).append(id)
        return [group for group in groups.values() if len(group) > 1]

    def hash(self, side: str) -> str:
        """sha256 over ids and pictures' hashes of a whole side, in the order of the ids."""
        whole = hashlib.sha256()
        for id, digest in sorted(zip(self.ids, self.digests[side])):
            whole.update(id.encode() + b"\0" + digest)
        return whole.hexdigest()


def require_unique(ids: Iterable[str]) -> None:
    """Refuse an id that is there twice: an image counted twice changes every number."""
    if again := next((id for id, count in Counter(ids).items() if count > 1), None):
        raise ValueError(f"the id {again!r} came twice; every image must be counted exactly once")


def merge(shards: Iterable[Shard], *, keep_rows: bool) -> Evidence:
    """Put shards together, one in memory at a time; an id that two of them hold is refused."""
    evidence, every = Evidence([], {}, {}, {}, {}), list[str]()
    columns: dict[str, dict[str, list[Tensor]]] = {}
    for shard in shards:
        every += [*shard.ids, *shard.corrupt]
        evidence.ids += shard.ids
        evidence.corrupt |= shard.corrupt
        for side, digests in shard.digests.items():
            evidence.digests.setdefault(side, []).extend(digests)
        for side, parts in shard.columns.items():
            for key, values in parts.items():
                columns.setdefault(side, {}).setdefault(key, []).extend(values)
        for key in (*shard.rows, *shard.moments):
            gathered = evidence.gathered.setdefault(key, Gathered(Moments(shard.extractors[key[1]]), keep_rows))
            gathered.add(shard.rows.get(key), shard.moments.get(key))
    require_unique(every)
    evidence.columns = {side: {key: torch.cat(row) for key, row in parts.items()} for side, parts in columns.items()}
    return evidence
