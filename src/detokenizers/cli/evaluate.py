"""`detok evaluate`: folders of pictures against a reference, with intervals, through a named network.

folders, reference -pair up by id?-> reconstruction (PSNR, SSIM, PD, FD) | generation (FD, KD, density, coverage)
-> results.json, results.md, the table on stdout. Prompts in the world's grammar are also judged for agreement.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor
from tqdm import tqdm

from ..data.images import ImageFile, batches, find
from ..data.scenes import Truth
from ..evaluation.features import Extractor, collect
from ..evaluation.generation import generation
from ..evaluation.reconstruction import reconstruction
from ..evaluation.results import Result
from ..evaluation.tables import markdown, save
from ..evaluation.world_judge import WorldJudge
from ..mini.runs import load_world_net
from .gallery import MANIFEST
from .judging import asked_in, world_judge
from .sources import Pictures, pictures
from .verbs import Evaluate

T = TypeVar("T")
BATCH = 32


def run(request: Evaluate) -> None:
    """Measure, write results.json and results.md, print the table."""
    rows = rows_of(request.drawn)
    net = load_world_net(request.net)
    paths = [request.reference] if request.reference else []
    reference = pictures(paths, request.world, net.config.resolution, BATCH, request.split)
    settings = {"reference": str(request.reference or f"{request.world} scenes of the world")}
    asked = asked_in(request.drawn[0])
    how = {"seed": request.seed, "settings": settings}
    how |= {"asked": asked, "judge": world_judge(request.net)} if asked else {}
    result = score(rows, reference, Extractor(net, "world"), net.config.resolution, **how)
    save(result, request.out or request.drawn[0])
    print(markdown(result), end="")


def score(
    rows: Mapping[str, list[ImageFile]],
    reference: Pictures,
    extractor: Extractor,
    size: int,
    *,
    asked: Mapping[str, Truth] | None = None,
    judge: WorldJudge | None = None,
    **how: Any,
) -> Result:
    """Numbers per pair when the ids are those of the reference, distances of sets when none of them is.

    Raises:
        ValueError: rows with different ids, or ids of which only some are in the reference.
    """
    first, ids = next((name, [file.id for file in files]) for name, files in rows.items())
    for name, files in rows.items():
        if odd := {file.id for file in files} ^ set(ids):
            raise ValueError(f"{name} and {first} hold different pictures, e.g. {min(odd)!r}; compare like with like")
    shared = set(ids) & set(reference.ids)
    if shared and len(shared) < max(len(ids), len(reference.ids)):
        raise ValueError(
            f"{len(shared)} ids are in both the {len(ids)} pictures and the {len(reference.ids)} of the reference; "
            "pairs need all of them, sets need other names"
        )
    order = reference.chunks if shared else [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]
    decoders = {name: partial(take, in_order(files, order, size)) for name, files in rows.items()}
    if shared:
        return reconstruction(bar(reference.batches, order, "measuring"), decoders, extractor, **how)
    seen = collect(bar(reference.batches, reference.chunks, "reference"), extractor)
    drawing = bar([(chunk, chunk) for chunk in order], order, "measuring")
    return generation(drawing, decoders, extractor, seen, asked=asked, judge=judge, **how)


def rows_of(folders: Sequence[Path]) -> dict[str, list[ImageFile]]:
    """Folders to judge by name; one that `generate` or `reconstruct` left behind is one row per decoder."""
    rows: dict[str, list[ImageFile]] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"there is no folder of pictures at {folder}")
        for path in decoders_in(folder) or [folder]:
            rows[path.name if path.name not in rows else str(path)] = find(path)
    return rows


def decoders_in(folder: Path) -> list[Path]:
    """The folders our own verbs filled, in the order they were asked for; the first is the baseline."""
    if not (folder / MANIFEST).exists():
        return []
    first = (folder / MANIFEST).read_text(encoding="utf-8").split("\n", 1)[0]
    try:
        return [folder / label for label in json.loads(first)["decoders"]]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise ValueError(
            f"{folder / MANIFEST} is not one of our manifests; name the folders of pictures instead"
        ) from None


def in_order(files: Sequence[ImageFile], order: Sequence[Sequence[str]], size: int) -> Iterator[Tensor]:
    """The pictures of these ids, batch by batch."""
    place = {file.id: file for file in files}
    for ids in order:
        for drawn in batches([place[id] for id in ids], size, len(ids)):
            yield drawn.images


def take(stream: Iterator[Tensor], _: Any, *, seeds: Sequence[int]) -> Tensor:
    """A folder as a decoder: its next batch, whatever it is asked to draw."""
    return next(stream)


def bar(items: Iterable[T], order: Sequence[Any], what: str) -> Iterable[T]:
    """A progress bar over as many batches as `order` has."""
    return tqdm(items, desc=what, total=len(order), disable=None)
