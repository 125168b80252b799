"""MJHQ-30K (Li et al., 2024): 30,000 prompts in ten categories, drawn pictures against the authors' as sets.

The distance of a category is taken at a tenth of the pictures and so lies higher than the overall one, whatever the
decoder: N stands beside every number, and the ten are never averaged.

meta_data.json -read-> {id: (category, prompt)} ; features -sort_in-> moments -by_category-> distances
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from ...texts import json_of, text_in
from ..frechet import frechet
from ..moments import Moments
from ..results import Metric, Result, measured

CATEGORIES = ("animals", "art", "fashion", "food", "indoor", "landscape", "logo", "people", "plants", "vehicles")
EACH = 3000
UNSAFE = re.compile(r"[\x00-\x1f/\\:*?\"<>|]|^\.*$")


class Picture(NamedTuple):
    """One entry: where its picture lies and what it shows."""

    category: str
    prompt: str


def read(path: str | Path, *, partial: bool = False) -> dict[str, Picture]:
    """Read the official meta_data.json; keys are `<category>/<id>`, the pictures' paths without suffix.

    Raises:
        ValueError: it is another format, or (unless `partial`) not ten categories of 3,000.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no MJHQ-30K file at {path}; it is meta_data.json of playgroundai/MJHQ-30K")
    table = json_of(text_in(path), str(path))
    if not isinstance(table, dict) or not table:
        raise ValueError(f'{path} is not MJHQ-30K\'s meta_data.json: {{id: {{"category", "prompt"}}}}')
    found: dict[str, Picture] = {}
    for id, entry in table.items():
        category, prompt = (entry.get(key) if isinstance(entry, dict) else None for key in ("category", "prompt"))
        if not isinstance(prompt, str) or not prompt.strip():
            raise ValueError(f'{path}: {id}: there is no text under "prompt"; MJHQ-30K\'s meta_data.json is expected')
        if category not in CATEGORIES:
            raise ValueError(f"{path}: {id}: there is no category {category!r}; MJHQ-30K has {', '.join(CATEGORIES)}")
        if UNSAFE.search(id):
            raise ValueError(f"{path}: the id {id!r} cannot be a file name")
        found[f"{category}/{id}"] = Picture(category, prompt.strip())
    counts = Counter(one.category for one in found.values())
    odd = [f"{category} {counts[category]:,}" for category in CATEGORIES if counts[category] != EACH]
    if odd and not partial:
        raise ValueError(f"{path} is not ten categories of {EACH:,} ({', '.join(odd)}); --partial takes what there is")
    return found


def sort_in(
    seen: Iterable[tuple[Sequence[str], Float[Tensor, "b f"]]], categories: Mapping[str, str], extractor: str
) -> dict[str, Moments]:
    """The moments of each category, out of batches of ids and features in any order.

    Args:
        categories: the category of every id that must come, once.
        extractor: who looked, as in `Moments`.
    """
    found = {category: Moments(extractor) for category in sorted(set(categories.values()))}
    left = dict(categories)
    for ids, rows in seen:
        if odd := next((id for id in ids if id not in left), None):
            raise ValueError(f"the picture {odd!r} is not in meta_data.json, or came twice")
        of = [left.pop(id) for id in ids]
        for category in set(of):
            found[category].update(rows[[place for place, one in enumerate(of) if one == category]])
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
