"""image -> tokens -> image, by several decoders on the same images: what is lost, what is gained, and how surely.

Always more than one number, because they disagree by nature: PSNR and SSIM punish every invented detail, the Fréchet
distance ignores which image a detail belongs to, sharpness tells blur (< 1) from noise (> 1).

images -each decoder-> images -pairwise, features-> columns per image -bootstrap-> result with paired differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from .bootstrap import LEVEL, centred, frechet_resamples, interval_of
from .features import Batches, Extractor, Features, Ids, item_seed
from .frechet import frechet
from .pairwise import WINDOWS, PerceptualDistance, canonical, gradient_energy, psnr, ssim
from .results import Metric, Result, mean_of, measured, provenance

Decoder = Callable[..., Float[Tensor, "b 3 h w"]]
"""Called as `decoder(what_the_batch_holds, seeds=[...])`; a `Detokenizer` is one when the batches hold tokens."""

Columns = dict[str, Float[Tensor, "n"]]
"""One value per image under each metric's key."""


def reconstruction(
    batches: Batches[Tensor],
    decoders: Mapping[str, Decoder],
    extractor: Extractor,
    *,
    seed: int = 0,
    num_resamples: int = 1000,
    num_frechet_resamples: int = 200,
    settings: Mapping[str, Any] | None = None,
) -> Result:
    """Reconstruct every image with every decoder and compare.

    Args:
        batches: ids and images [b 3 h w] in [-1, 1].
        decoders: name -> `decoder(images, seeds=[...]) -> images`; the first is the baseline of the paired differences.
        extractor: the net of the Fréchet and the perceptual distance.
        settings: what the caller wants written beside the numbers (steps, run folders, data set, ...).

    Returns:
        JSON-ready: `n`, `ids`, `decoders` {name: {"metrics", "per_image"}}, `differences` and how all was made.
    """
    if not decoders:
        raise ValueError("there is no decoder to evaluate")
    perceptual = PerceptualDistance(extractor, extractor.name)
    known, truth = Ids(), Features(extractor.identity)
    drawn = {name: Features(extractor.identity) for name in decoders}
    parts: dict[str, list[Columns]] = {name: [] for name in decoders}
    for ids, images in batches:
        known.add(ids)
        original, seeds = canonical(images), [item_seed(seed, id) for id in ids]
        embedded = perceptual.embed(original)
        truth.add(ids, extractor.features(original))
        for name, decoder in decoders.items():
            with torch.no_grad():
                copy = canonical(decoder(images, seeds=seeds))
            drawn[name].add(ids, extractor.features(copy))
            near = perceptual.between(perceptual.embed(copy), embedded).cpu()
            parts[name].append(pixel_columns(copy, original) | {f"pd_{extractor.name}": near})
    if len(truth.ids) < 2:
        raise ValueError(f"reconstructions are scored on at least two images, got {len(truth.ids)}")

    columns = {name: {key: torch.cat([part[key] for part in rows]) for key in rows[0]} for name, rows in parts.items()}
    resamples = {
        name: frechet_resamples(seen.rows, truth.rows, num_resamples=num_frechet_resamples, seed=seed)
        for name, seen in drawn.items()
    }
    distances = {name: frechet(seen.moments(), truth.moments()) for name, seen in drawn.items()}
    means, baseline = mean_metrics(extractor.name), next(iter(decoders))
    fd, fd_metric = f"fd_{extractor.name}", Metric(f"FD-{extractor.name}", "lower")

    def scores(name: str) -> Result:
        metrics = {key: mean_of(metric, columns[name][key], num_resamples, seed) for key, metric in means.items()}
        metrics["sharpness"] = sharpness(columns[name], num_resamples, seed)
        metrics[fd] = measured(fd_metric, distances[name], centred(resamples[name], distances[name]))
        return {"metrics": metrics, "per_image": {key: finite_list(values) for key, values in columns[name].items()}}

    def difference(name: str) -> Result:
        gaps = {key: columns[name][key] - columns[baseline][key] for key in means}
        metrics = {key: mean_of(metric, gaps[key], num_resamples, seed) for key, metric in means.items()}
        gap = distances[name] - distances[baseline]
        metrics[fd] = measured(fd_metric, gap, centred(resamples[name] - resamples[baseline], gap))
        return {"metrics": metrics}

    return {
        "kind": "reconstruction",
        "n": len(truth.ids),
        "seed": seed,
        "intervals": {"level": LEVEL, "resamples": num_resamples, "frechet_resamples": num_frechet_resamples},
        "extractor": extractor.identity,
        "quantisation": "round to uint8 before every metric",
        **provenance(extractor.device, settings or {}),
        "decoders": {name: scores(name) for name in decoders},
        "differences": {f"{name} - {baseline}": difference(name) for name in decoders if name != baseline},
        "ids": truth.ids,
    }


def pixel_columns(copy: Float[Tensor, "b 3 h w"], original: Float[Tensor, "b 3 h w"]) -> Columns:
    """PSNR, both SSIMs and gradient energies of each pair."""
    similarities = {f"ssim_{name}": ssim(copy, original, window) for name, window in WINDOWS.items()}
    energies = {"energy": gradient_energy(copy), "true_energy": gradient_energy(original)}
    return {"psnr": psnr(copy, original), **similarities, **energies}


def mean_metrics(extractor: str) -> dict[str, Metric]:
    """Columns whose mean over images is the number."""
    similarities = {f"ssim_{name}": Metric(f"SSIM-{name}", "higher") for name in WINDOWS}
    return {
        "psnr": Metric("PSNR", "higher", "dB"),
        **similarities,
        f"pd_{extractor}": Metric(f"PD-{extractor}", "lower"),
    }


def sharpness(columns: Columns, num_resamples: int, seed: int) -> Result:
    """Gradient energy of all drawn images over that of all originals: a ratio of means: plain images weigh little."""
    drawn, true = columns["energy"].numpy(), columns["true_energy"].numpy()

    def ratio(rows: NDArray[np.intp]) -> float:
        return float(drawn[rows].mean() / true[rows].mean())

    metric = Metric("sharpness", "one")
    if not true.all():
        return measured(metric, None, reason="an original without any gradient has no sharpness to compare with")
    bounds = interval_of(ratio, len(true), num_resamples=num_resamples, seed=seed)
    return measured(metric, ratio(np.arange(len(true))), bounds)


def finite_list(values: Float[Tensor, "n"]) -> list[float | None]:
    """JSON has no infinity: `null` says that two images are identical."""
    return [value if math.isfinite(value) else None for value in values.tolist()]
