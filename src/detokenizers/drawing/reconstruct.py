"""`detok reconstruct`: pictures to tokens and back, by several decoders, with PSNR and SSIM beside each.

picture -tokenizer, distributions by proxy-> tokens -each decoder-> DECODER/ITEM.png -PSNR, SSIM-> results, contact
sheet
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..checkpoint import fingerprint
from ..cli.verbs import Reconstruct
from ..config import swallowed
from ..data.marks import RESULTS, require_ours
from ..data.pictures import pictures
from ..device import device_of
from ..evaluation.pairwise import WINDOWS, psnr, ssim
from ..evaluation.results import Metric, Result, mean_of, measured, provenance
from ..evaluation.tables import table
from ..pretrained.vlm.loading import load_tokenizer
from ..seeds import item_seed
from .decoders import evenly, filled, load_decoders, steps_of, taken
from .gallery import ORIGINAL, Gallery

MEASURES = {"psnr": Metric("PSNR", "higher", "dB"), "ssim": Metric("SSIM-uniform7", "higher")}
RESAMPLES = 1000


def run(request: Reconstruct) -> None:
    """Draw what is missing, measure all, write results and contact sheet."""
    if not request.images and not request.world:
        raise ValueError(
            f"name pictures or folders of them, or ask for --world N scenes{swallowed(request, 'decoder')}"
        )
    gallery, device = Gallery(request.out), device_of(request.device)
    require_ours(request.out, RESULTS)
    tokenizer = load_tokenizer(request.vlm, device=device)
    # Chunks of a size in which a picture does not depend on its company, and as many rows in the last one.
    size = evenly(request.decode_batch, request.decode_batch)
    found = pictures(request.images, request.world, tokenizer.image_size, size, request.split, request.smallest)
    decoders = load_decoders(request.decoder, tokenizer, device)
    steps = steps_of(request.steps, decoders)
    weights = {label: decoder.fingerprint() for label, decoder in decoders.items()}
    columns: dict[str, dict[str, list[Tensor]]] = {label: {name: [] for name in MEASURES} for label in decoders}
    vlm_weights, size = tokenizer.fingerprint(), evenly(len(found.ids), size)
    gallery.expect([{"id": id, "decoders": list(decoders)} for id in found.ids])
    for ids, images in tqdm(found.batches, desc="reconstructing", total=len(found.chunks), disable=None):
        seen = {id: {"picture": fingerprint(image)[:16]} for id, image in zip(ids, images)}
        for id, image in zip(ids, images):
            if gallery.lacks(ORIGINAL, id, seen[id]):
                gallery.keep(ORIGINAL, id, image, seen[id])
        for label, decoder in decoders.items():
            how = {"vlm": request.vlm, "vlm_weights": vlm_weights, "decoder": label, "weights": weights[label]}
            how |= {"steps": steps[label]} if label in steps else {}
            notes = {id: {"id": id, **seen[id], "seed": item_seed(request.seed, id), **how} for id in ids}
            lacking = [row for row, id in enumerate(ids) if gallery.lacks(label, id, notes[id])]
            if lacking:
                rows = filled(lacking, size)
                tokens = decoder.read(images[rows].to(device), tokenizer)
                seeds = [notes[ids[row]]["seed"] for row in rows]
                for row, image in zip(lacking, decoder(tokens, steps=steps.get(label), seeds=seeds)):
                    gallery.keep(label, ids[row], image, notes[ids[row]])
            drawn = torch.cat([gallery.image(label, id) for id in ids])
            columns[label]["psnr"].append(psnr(drawn, images))
            columns[label]["ssim"].append(ssim(drawn, images, WINDOWS["uniform7"]))
    scores = {label: summary(row, request.seed) for label, row in columns.items()}
    result = {
        "kind": "reconstruction",
        "n": len(found.ids),
        "seed": request.seed,
        **provenance(device, {"vlm": request.vlm, "steps": steps}),
        "decoders": {
            label: {
                "metrics": scores[label],
                "per_image": {name: finite(torch.cat(column)) for name, column in columns[label].items()},
            }
            for label in decoders
        },
        "ids": found.ids,
    }
    rows = gallery.record({"id": id, "decoders": list(decoders)} for id in found.ids)
    gallery.report(result, table("decoder", scores))
    sheet = gallery.show(rows, [ORIGINAL, *decoders], note=f"{request.vlm}; {taken(steps)}")
    print(f"{table('decoder', scores)}\n\n{len(found.ids)} pictures in {request.out}; look at {sheet}")


def summary(columns: Mapping[str, list[Tensor]], seed: int) -> dict[str, Result]:
    """Means over pictures, with an interval where there are several."""

    def mean(name: str, values: Tensor) -> Result:
        metric: Any = MEASURES[name]
        return mean_of(metric, values, RESAMPLES, seed) if len(values) > 1 else measured(metric, values.item())

    return {name: mean(name, torch.cat(column)) for name, column in columns.items()}


def finite(values: Tensor) -> list[float | None]:
    """JSON knows no infinity: the PSNR of identical pictures is null."""
    return [value if value != float("inf") else None for value in values.tolist()]
