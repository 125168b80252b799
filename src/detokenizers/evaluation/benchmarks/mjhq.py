"""MJHQ-30K (Li et al., 2024): 30,000 prompts in ten categories; drawn pictures against the authors' as sets, all
together and category by category, under a named protocol.

The distance of a category is taken at a tenth of the pictures and so lies higher than the overall one, whatever the
decoder: N stands beside every number, and the ten are never averaged.

DECODER/CATEGORY/ID.png, --reference/CATEGORY/ID.jpg -protocol's way of reading, its network-> moments by category
-by_category-> distances
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from ...data.images import ImageFile
from ...data.prompts import Prompt, is_file_name, read_prompts
from ...device import device_of
from ...nn.world_net import load_world_net
from ...pixels import to_tensor
from ..evaluation_settings import BenchmarkConfig, official_file
from ..features import Extractor
from ..frechet import frechet
from ..moments import Moments
from ..networks import Networks
from ..results import Metric, Result, measured
from ..rules import rules_of
from ..sides import Read, drawn_reader, files_of, reference_reader

CATEGORIES = ("animals", "art", "fashion", "food", "indoor", "landscape", "logo", "people", "plants", "vehicles")
EACH = 3000
BATCH = 32


def read_mjhq(path: str | Path, *, partial: bool = False) -> dict[str, Prompt]:
    """Read the official meta_data.json; keys are `<category>/<id>`, the pictures' paths without suffix.

    Raises:
        ValueError: it is another format, or (unless `partial`) not ten categories of 3,000.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no MJHQ-30K file at {path}; it is meta_data.json of playgroundai/MJHQ-30K")
    found: dict[str, Prompt] = {}
    for one in read_prompts(path):
        if one.category not in CATEGORIES:
            raise ValueError(
                f"{path}: {one.id}: there is no category {one.category!r}; MJHQ-30K has {', '.join(CATEGORIES)}"
            )
        if not is_file_name(one.id):
            raise ValueError(f"{path}: the id {one.id!r} cannot be a file name")
        found[f"{one.category}/{one.id}"] = one
    counts = Counter(one.category for one in found.values())
    odd = [f"{category} {counts[category]:,}" for category in CATEGORIES if counts[category] != EACH]
    if odd and not partial:
        raise ValueError(f"{path} is not ten categories of {EACH:,} ({', '.join(odd)}); --partial takes what there is")
    return found


def evaluated(config: BenchmarkConfig, folders: Mapping[str, Path], out: Path) -> Result:
    """Eleven distances of every decoder."""
    if config.reference is None or not config.reference.is_dir():
        raise ValueError(
            "--bench mjhq needs --reference, the unpacked folder of mjhq30k_imgs.zip (<category>/<id>.jpg)"
        )
    if set(config.allow) - {"any-n"}:
        raise ValueError(
            f"--bench mjhq allows any-n only, not {', '.join(config.allow)}; all its pictures must be there"
        )
    prompts = read_mjhq(official_file("mjhq", config.bench_file), partial=config.partial)
    rules = rules_of(config.protocol)
    networks = Networks(device_of(config.device), resize=rules.resize, world=lambda: load_world_net(config.net))
    _, metric, tag = rules.metric(rules.extractor, len(prompts), paired=False, any_n=config.partial or config.any_n)
    files = {name: files_of(folder, list(prompts)) for name, folder in folders.items()}
    originals = files_of(config.reference, list(prompts))
    extractor = networks.extractor(rules.extractor)
    size = networks["world"].config.resolution if rules.extractor == "world" and rules.size is None else rules.size
    categories = {id: str(one.category) for id, one in prompts.items()}

    def moments(files: Sequence[ImageFile], read: Read, name: str) -> dict[str, Moments]:
        return sort_in(features(files, read, extractor, name), categories, extractor.identity)

    real = moments(originals, reference_reader(originals, rules, size), "reference")
    drawn = {name: moments(some, drawn_reader(some, rules, size), name) for name, some in files.items()}
    return {
        "tag": f"mjhq-{rules.name.removeprefix('mjhq-')}",
        "judge": extractor.identity,
        "protocol": rules.model_dump(mode="json"),
        "not_comparable": tag,
        "n": {name: len(some) for name, some in files.items()},
        "prompts": len(prompts),
        "decoders": {name: by_category(one, real, metric) for name, one in drawn.items()},
        "differences": {},
    }


def features(
    files: Sequence[ImageFile], read: Read, extractor: Extractor, name: str
) -> Iterator[tuple[list[str], Float[Tensor, "b f"]]]:
    """Batches of ids and features, each of neighbours of one size: originals come in many."""
    bar = tqdm(files, desc=f"measuring {name}", disable=None)
    pictures = ((file.id, read(file.path)) for file in bar)
    for _, group in groupby(pictures, key=lambda one: one[1].shape):
        alike = iter(group)
        while several := [one for _, one in zip(range(BATCH), alike)]:
            images = to_tensor(np.stack([pixels for _, pixels in several]))
            images = images.contiguous(memory_format=torch.contiguous_format)
            yield [id for id, _ in several], extractor.features(images)


def sort_in(
    batches: Iterable[tuple[Sequence[str], Float[Tensor, "b f"]]], categories: Mapping[str, str], extractor: str
) -> dict[str, Moments]:
    """The moments of each category, out of batches of ids and features in any order.

    Args:
        categories: the category of every id that must come, once.
        extractor: the network's identity, as in `Moments`.
    """
    found = {category: Moments(extractor) for category in sorted(set(categories.values()))}
    left = dict(categories)
    for ids, rows in batches:
        if odd := next((id for id in ids if id not in left), None):
            raise ValueError(f"the picture {odd!r} is not in meta_data.json, or came twice")
        of = [left.pop(id) for id in ids]
        for category in set(of):
            found[category].update(rows[[row for row, one in enumerate(of) if one == category]])
    if left:
        raise ValueError(f"{len(left):,} pictures of meta_data.json are missing, e.g. {min(left)!r}")
    return found


def by_category(drawn: Mapping[str, Moments], real: Mapping[str, Moments], metric: Metric) -> Result:
    """The distance of all pictures, and of each category; N stands beside each.

    Args:
        metric: what the overall distance is called; `FID` only where a protocol allows it.
    """
    whole, reference = merged(drawn), merged(real)
    metrics = {"overall": measured(sized(metric, metric.label, whole), frechet(whole, reference), n=whole.count)}
    for category, moments in drawn.items():
        value = frechet(moments, real[category]) if moments.count > 1 else None
        metrics[category] = measured(sized(metric, category, moments), value, n=moments.count)
    return {"metrics": metrics}


def sized(metric: Metric, label: str, moments: Moments) -> Metric:
    return metric if "N=" in label else metric._replace(label=f"{label} (N = {moments.count:,})")


def merged(parts: Mapping[str, Moments]) -> Moments:
    """All categories as one set."""
    whole = Moments(next(iter(parts.values())).extractor)
    for part in parts.values():
        whole.merge(part)
    return whole
