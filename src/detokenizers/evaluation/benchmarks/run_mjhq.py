"""MJHQ-30K: drawn pictures against the authors', all together and category by category, under a named protocol.

DECODER/CATEGORY/ID.png, --reference/CATEGORY/ID.jpg -protocol's way of reading, its network-> moments -> distances
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from ...cli.verbs import Evaluate
from ...data.images import ImageFile, find
from ...device import device_of
from ..settings import official_file
from ...mini.runs import load_world_net
from ...pixels import to_tensor
from .. import rules as protocols
from ..features import Extractor
from ..moments import Moments
from ..networks import Networks
from ..results import Result
from ..sides import Read, drawn_reader, reference_reader
from .mjhq_set import Picture, by_category, read, sort_in

BATCH = 32


def evaluated(request: Evaluate, folders: Mapping[str, Path], out: Path) -> Result:
    """Eleven distances of every decoder."""
    if request.reference is None or not request.reference.is_dir():
        raise ValueError(
            "--bench mjhq needs --reference, the unpacked folder of mjhq30k_imgs.zip (<category>/<id>.jpg)"
        )
    if set(request.allow) - {"any-n"}:
        raise ValueError(
            f"--bench mjhq allows any-n only, not {', '.join(request.allow)}; all its pictures must be there"
        )
    pictures = read(official_file("mjhq", request.bench_file), partial=request.partial)
    rules = protocols.protocol(request.protocol)
    networks = Networks(device_of(request.device), look=rules.look, world=lambda: load_world_net(request.net))
    _, metric, tag = rules.metric(
        rules.extractor, len(pictures), paired=False, any_n=request.partial or "any-n" in request.allow
    )
    files = {name: files_in(folder, pictures) for name, folder in folders.items()}
    originals = files_in(request.reference, pictures)
    looking = networks.extractor(rules.extractor)
    size = looking.net.config.resolution if rules.extractor == "world" and rules.size is None else rules.size  # pyright: ignore[reportAttributeAccessIssue]
    real = seen(originals, reference_reader(originals, rules, size), looking, pictures, "reference")
    drawn = {name: seen(some, drawn_reader(some, rules, size), looking, pictures, name) for name, some in files.items()}
    return {
        "tag": f"mjhq-{rules.name.removeprefix('mjhq-')}",
        "judge": looking.identity,
        "protocol": rules.model_dump(mode="json"),
        "not_comparable": tag,
        "n": {name: len(some) for name, some in files.items()},
        "prompts": len(pictures),
        "decoders": {name: by_category(moments, real, metric) for name, moments in drawn.items()},
        "differences": {},
    }


def files_in(folder: Path, pictures: Mapping[str, Picture]) -> list[ImageFile]:
    """The folder's pictures of these ids, which must all be there."""
    found = {file.id: file for file in find(folder)}
    if missing := sorted(set(pictures) - set(found)):
        raise ValueError(f"{folder} lacks {len(missing):,} of {len(pictures):,} pictures, e.g. {missing[0]}")
    return [found[id] for id in pictures]


def seen(
    files: Sequence[ImageFile], read_one: Read, looking: Extractor, pictures: Mapping[str, Picture], name: str
) -> dict[str, Moments]:
    """The moments of each category, one pass, memory flat."""

    def rows() -> Iterator[tuple[list[str], Float[Tensor, "b f"]]]:
        bar = tqdm(files, desc=f"looking at {name}", disable=None)
        for ids, images in alike(bar, read_one):
            yield ids, looking.features(images)

    return sort_in(rows(), {id: one.category for id, one in pictures.items()}, looking.identity)


def alike(files: tqdm[ImageFile], read_one: Read) -> Iterator[tuple[list[str], Float[Tensor, "b 3 h w"]]]:
    """Batches of neighbours of one size; originals come in many."""
    read = ((file.id, read_one(file.path)) for file in files)
    for _, group in groupby(read, key=lambda one: one[1].shape):
        several: list[tuple[str, np.ndarray]] = []
        for one in group:
            several.append(one)
            if len(several) == BATCH:
                yield [id for id, _ in several], stacked(several)
                several = []
        if several:
            yield [id for id, _ in several], stacked(several)


def stacked(several: Sequence[tuple[str, np.ndarray]]) -> Float[Tensor, "b 3 h w"]:
    return to_tensor(np.stack([pixels for _, pixels in several])).contiguous(memory_format=torch.contiguous_format)
