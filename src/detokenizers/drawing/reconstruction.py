"""Pictures to tokens and back, by several decoders, with PSNR and SSIM beside each.

picture -tokenizer, distributions by proxy-> tokens -each decoder-> DECODER/ITEM.png
        -PSNR, SSIM-> results.json, results.md, contact sheet
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from ..checkpoint import fingerprint
from ..data.images import Images
from ..data.marks import RESULTS, require_ours
from ..data.pictures import pictures
from ..device import device_of
from ..evaluation.pairwise import WINDOWS, psnr, ssim
from ..evaluation.reporting import finite_list
from ..evaluation.results import Metric, Result, mean_of, measured, provenance
from ..papers import load_tokenizer
from ..protocols import Decoder, TokenVLM, VisualTokenizer
from ..seeds import item_seed
from .batching import evenly, filled
from .decoders import Named, labelled, load_decoders, of_tokens, steps_note, steps_of
from .drawing_settings import ReconstructConfig
from .gallery import ORIGINAL, Drawn, Gallery

MEASURES = {"psnr": Metric("PSNR", "higher", "dB"), "ssim": Metric("SSIM-uniform7", "higher")}
RESAMPLES = 1000


def reconstruct(
    images: str | Path | Sequence[str | Path] = (),
    *,
    vlm: str | TokenVLM = "mini",
    decoder: Named = ("vq", "mini/dcdd"),
    **settings: Any,
) -> Drawn:
    """Draw what is missing, measure all, write results and contact sheet.

    Args:
        images: pictures and folders of pictures; with `world=N` scenes of the embedded world instead.
        vlm: the VLM whose tokens are read, by name or itself.
        decoder: names, or decoders by the labels that they get; the first is the baseline.
        settings: the others of `ReconstructConfig`; `out` is needed.

    Raises:
        ValueError: a setting does not fit, or a picture is there and was made otherwise.
    """
    asked = labelled(decoder)
    config = ReconstructConfig.parse(
        {
            "images": (images,) if isinstance(images, (str, Path)) else tuple(images),
            "vlm": vlm if isinstance(vlm, str) else type(vlm).__name__,
            "decoder": tuple(label for label, _ in asked),
            **settings,
        }
    )
    gallery, device = Gallery(config.out), device_of(config.device)
    require_ours(config.out, RESULTS)
    tokenizer = load_tokenizer(vlm, device=device) if isinstance(vlm, str) else vlm.tokenizer
    # Chunks of a size in which a picture does not depend on its company, and as many rows in the last one.
    size = evenly(config.decode_batch, config.decode_batch)
    found = pictures(config.images, config.world, tokenizer.image_size, size, config.split, config.smallest)
    loaded = load_decoders(asked, lambda: tokenizer, device)
    decoders = of_tokens(loaded)
    if others := sorted(loaded.keys() - decoders.keys()):
        raise ValueError(f"{others[0]} draws from prompts, not from pictures; use it with generate")
    gallery.expect([{"id": id, "decoders": list(decoders)} for id in found.ids])
    task = Reconstruction(config, tokenizer, decoders, gallery, found.captions, rows=evenly(len(found.ids), size))
    columns: dict[str, dict[str, list[Tensor]]] = {label: {name: [] for name in MEASURES} for label in decoders}
    for batch in tqdm(found.batches, desc="reconstructing", total=len(found.chunks), disable=None):
        for label, drawn in task.drawn(batch, device).items():
            for name, values in similarity(drawn, batch.images).items():
                columns[label][name].append(values)
    values = {label: {name: torch.cat(parts) for name, parts in row.items()} for label, row in columns.items()}
    scores = {label: summary(row, config.seed) for label, row in values.items()}
    rows = gallery.record({"id": id, "decoders": list(decoders)} for id in found.ids)
    sheet = gallery.show(rows, [ORIGINAL, *decoders], note=f"{config.vlm}; {steps_note(task.steps)}")
    ids = set(found.ids)
    result = Drawn(gallery, tuple(decoders), tuple(row for row in rows if row["id"] in ids), sheet, scores)
    settings = {"vlm": config.vlm, "steps": task.steps}
    gallery.report(
        {
            "kind": "reconstruction",
            "n": len(found.ids),
            "seed": config.seed,
            **provenance(device, settings),
            "decoders": {
                label: {
                    "metrics": scores[label],
                    "per_image": {name: finite_list(column) for name, column in values[label].items()},
                }
                for label in decoders
            },
            "ids": found.ids,
        },
        result.table(),
    )
    return result


class Reconstruction:
    """A tokenizer, decoders, and the gallery they fill; every batch is drawn in `rows` rows."""

    def __init__(
        self,
        config: ReconstructConfig,
        tokenizer: VisualTokenizer,
        decoders: Mapping[str, Decoder],
        gallery: Gallery,
        captions: Mapping[str, str],
        rows: int,
    ) -> None:
        self.seed, self.rows, self.captions = config.seed, rows, captions
        self.tokenizer, self.decoders, self.gallery = tokenizer, decoders, gallery
        self.steps = steps_of(config.steps, decoders)
        shared = {"vlm": config.vlm, "vlm_weights": tokenizer.fingerprint()}
        self.how = {
            label: {**shared, "decoder": label, "weights": one.fingerprint()}
            | ({"steps": self.steps[label]} if label in self.steps else {})
            for label, one in decoders.items()
        }

    def drawn(self, batch: Images, device: torch.device) -> dict[str, Float[Tensor, "b 3 s s"]]:
        """Draw what is missing of a batch, and read it back, by decoder."""
        originals = {id: {"picture": fingerprint(image)[:16]} for id, image in zip(*batch)}
        for id, image in zip(*batch):
            if self.gallery.lacks(ORIGINAL, id, originals[id]):
                self.gallery.keep(ORIGINAL, id, image, originals[id])
        for label, decoder in self.decoders.items():
            told = self.captions if "captions" in getattr(decoder, "options", ()) else {}
            texts = {id: {"caption": told[id]} if id in told else {} for id in batch.ids}
            notes = {
                id: {"id": id, **one, **texts[id], "seed": item_seed(self.seed, id), **self.how[label]}
                for id, one in originals.items()
            }
            lacking = [row for row, id in enumerate(batch.ids) if self.gallery.lacks(label, id, notes[id])]
            if lacking:
                rows = filled(lacking, self.rows)
                tokens = decoder.read(batch.images[rows].to(device), self.tokenizer)
                ids = [batch.ids[row] for row in rows]
                tokens = replace(tokens, captions=[self.captions.get(id, "") for id in ids])
                seeds = [notes[id]["seed"] for id in ids]
                for row, image in zip(lacking, decoder(tokens, steps=self.steps.get(label), seeds=seeds)):
                    self.gallery.keep(label, batch.ids[row], image, notes[batch.ids[row]])
        return {label: torch.cat([self.gallery.image(label, id) for id in batch.ids]) for label in self.decoders}


def similarity(drawn: Float[Tensor, "b 3 s s"], originals: Float[Tensor, "b 3 s s"]) -> dict[str, Float[Tensor, "b"]]:
    """The values of `MEASURES`, one a picture."""
    return {"psnr": psnr(drawn, originals), "ssim": ssim(drawn, originals, WINDOWS["uniform7"])}


def summary(columns: Mapping[str, Float[Tensor, "n"]], seed: int) -> dict[str, Result]:
    """Means over pictures, with an interval where there are several."""

    def mean(metric: Metric, values: Float[Tensor, "n"]) -> Result:
        return mean_of(metric, values, RESAMPLES, seed) if len(values) > 1 else measured(metric, values.item())

    return {name: mean(MEASURES[name], values) for name, values in columns.items()}
