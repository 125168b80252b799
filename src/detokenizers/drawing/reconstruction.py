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

from ..checkpoint import fingerprint
from ..data.images import Images
from ..data.marks import RESULTS, SHEET, require_ours
from ..data.pictures import Pictures, pictures
from ..device import device_of
from ..evaluation.pairwise import WINDOWS, psnr, ssim
from ..evaluation.reporting import finite_list, write_report
from ..evaluation.results import Metric, Result, mean_of, measured, provenance
from ..papers import load_tokenizer
from ..protocols import Decoder, TokenVLM, VisualTokenizer
from ..seeds import item_seed
from ..tars import exists
from .batching import chunks, evenly, filled
from .decoders import Drawer, Named, labelled, load_decoders, of_pictures, steps_note, steps_of
from .drawing_settings import VLM, ReconstructConfig
from .gallery import ORIGINAL, Drawn, Gallery
from .sharing import Progress, drawn_together

MEASURES = {"psnr": Metric("PSNR", "higher", "dB"), "ssim": Metric("SSIM-uniform7", "higher")}
RESAMPLES = 1000


def reconstruct(
    images: str | Path | Sequence[str | Path] = (),
    *,
    vlm: str | TokenVLM = VLM,
    decoder: Named = ("vq", "mini/dcdd"),
    **settings: Any,
) -> Drawn:
    """Draw what is missing, measure all, write results and contact sheet; of several processes each draws its share, and
    the first does the rest when all is there.

    Args:
        images: pictures and folders of pictures; with `world=N` scenes of the embedded world instead.
        vlm: the VLM whose tokens are read, by name or itself.
        decoder: names, or decoders by the labels that they get; the first is the baseline.
        settings: the others of `ReconstructConfig`; `out` is needed.

    Raises:
        ValueError: a setting does not fit, a picture is there and was made otherwise, or another process died.
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
    require_ours(config.out, RESULTS)
    if config.out.resolve() in [path.resolve() for path in config.images]:
        raise ValueError(
            f"--out {config.out} holds the pictures themselves, which drawn ones would join; choose another"
        )
    task = prepared(config, vlm, asked)
    gallery, decoders, found = task.gallery, task.decoders, task.found
    every = [{"id": id, "decoders": list(decoders)} for id in found.ids]
    gallery.expect(every)
    if not drawn_together(task, config.out, "reconstructing", (prepared, config, vlm, asked), config.ray):
        return Drawn(gallery, tuple(decoders), tuple(every), config.out / SHEET)
    columns: dict[str, dict[str, list[Tensor]]] = {label: {name: [] for name in MEASURES} for label in decoders}
    for ids in found.chunks:
        read = {label: torch.cat([gallery.image(label, id) for id in ids]) for label in (ORIGINAL, *decoders)}
        for label in decoders:
            for name, values in similarity(read[label], read[ORIGINAL]).items():
                columns[label][name].append(values)
    values = {label: {name: torch.cat(parts) for name, parts in row.items()} for label, row in columns.items()}
    scores = {label: summary(row, config.seed) for label, row in values.items()}
    rows = gallery.record(every)
    sheet = gallery.show(rows, [ORIGINAL, *decoders], note=f"{config.vlm}; {steps_note(task.steps)}")
    ids = set(found.ids)
    result = Drawn(gallery, tuple(decoders), tuple(row for row in rows if row["id"] in ids), sheet, scores)
    settings = {"vlm": config.vlm, "steps": task.steps}
    write_report(
        config.out,
        {
            "kind": "reconstruction",
            "n": len(found.ids),
            "seed": config.seed,
            **provenance(task.device, settings),
            "decoders": {
                label: {
                    "metrics": scores[label],
                    "per_image": {name: finite_list(column) for name, column in values[label].items()},
                }
                for label in decoders
            },
            "ids": found.ids,
        },
        f"{result.table()}\n",
    )
    return result


def prepared(
    config: ReconstructConfig, vlm: str | TokenVLM, asked: Sequence[tuple[str, str | Drawer]]
) -> Reconstruction:
    """All that draws a unit of what is asked for.

    Raises:
        ValueError: a setting does not fit, or a decoder does not draw from pictures.
    """
    gallery, device = Gallery(config.out), device_of(config.device)
    tokenizer = load_tokenizer(vlm, device=device) if isinstance(vlm, str) else vlm.tokenizer
    # Chunks of a size in which a picture does not depend on its company, and as many rows in the last one.
    size = evenly(config.decode_batch, config.decode_batch)
    found = pictures(config.images, config.world, tokenizer.image_size, size, config.split, config.smallest)
    decoders = of_pictures(load_decoders(asked, lambda: tokenizer, device), tokenizer)
    return Reconstruction(config, tokenizer, decoders, gallery, found, device)


class Reconstruction:
    """A tokenizer, decoders, and the pictures whose copies they draw into a gallery; every batch has `rows` rows."""

    def __init__(
        self,
        config: ReconstructConfig,
        tokenizer: VisualTokenizer,
        decoders: Mapping[str, Decoder],
        gallery: Gallery,
        found: Pictures,
        device: torch.device,
    ) -> None:
        self.config, self.tokenizer, self.decoders, self.gallery = config, tokenizer, decoders, gallery
        self.found, self.device = found, device
        size = len(found.chunks[0])
        self.rows = evenly(len(found.ids), size)
        self.units = list(chunks(range(len(found.chunks)), -(-config.shards // size) or 1))
        self.steps = steps_of(config.steps, decoders)
        shared = {"vlm": config.vlm, "vlm_weights": tokenizer.fingerprint()}
        self.how = {
            label: {**shared, "decoder": label, "weights": one.fingerprint()}
            | ({"steps": self.steps[label]} if label in self.steps else {})
            for label, one in decoders.items()
        }

    @property
    def sizes(self) -> list[int]:
        return [sum(len(self.found.chunks[number]) for number in unit) for unit in self.units]

    def draw(self, unit: int, progress: Progress) -> None:
        """Draw what is missing of a unit, and make it a shard if that is asked for."""
        for number in self.units[unit]:
            self.draw_batch(self.found.read(number))
            progress(len(self.found.chunks[number]))
        if self.config.shards:
            for label in (ORIGINAL, *self.decoders):
                self.gallery.pack(label, unit, dict.fromkeys(self.ids(unit)))

    def done(self, unit: int) -> bool:
        """Whether every picture of a unit is there, and in a shard if that is asked for."""
        labels, ids = (ORIGINAL, *self.decoders), self.ids(unit)
        if self.config.shards and not all(self.gallery.packed(label, ids) for label in labels):
            return False
        if not all(exists(self.gallery.path(label, id)) for label in labels for id in ids):
            return False
        return not any(self.lacking(self.found.read(number), label) for number in self.units[unit] for label in labels)

    def ids(self, unit: int) -> list[str]:
        return [id for number in self.units[unit] for id in self.found.chunks[number]]

    def notes(self, batch: Images, label: str) -> list[dict[str, Any]]:
        """What decides each picture of a batch."""
        originals = [{"picture": fingerprint(image)[:16]} for image in batch.images]
        if label == ORIGINAL:
            return originals
        given = self.found.captions if "captions" in getattr(self.decoders[label], "options", ()) else {}
        texts = [{"caption": given[id]} if id in given else {} for id in batch.ids]
        return [
            {"id": id, **one, **text, "seed": item_seed(self.config.seed, id), **self.how[label]}
            for id, one, text in zip(batch.ids, originals, texts)
        ]

    def lacking(self, batch: Images, label: str) -> list[int]:
        """The rows of a batch that are still to be drawn."""
        notes = self.notes(batch, label)
        return [row for row, id in enumerate(batch.ids) if self.gallery.lacks(label, id, notes[row])]

    def draw_batch(self, batch: Images) -> None:
        """Draw what is missing of a batch."""
        notes = self.notes(batch, ORIGINAL)
        for row in self.lacking(batch, ORIGINAL):
            self.gallery.keep(ORIGINAL, batch.ids[row], batch.images[row], notes[row])
        for label, decoder in self.decoders.items():
            if not (lacking := self.lacking(batch, label)):
                continue
            notes, rows = self.notes(batch, label), filled(lacking, self.rows)
            tokens = decoder.read(batch.images[rows].to(self.device), self.tokenizer)
            captions = [self.found.captions.get(batch.ids[row], "") for row in rows]
            seeds = [notes[row]["seed"] for row in rows]
            images = decoder(replace(tokens, captions=captions), steps=self.steps.get(label), seeds=seeds)
            for row, image in zip(lacking, images):
                self.gallery.keep(label, batch.ids[row], image, notes[row])


def similarity(drawn: Float[Tensor, "b 3 s s"], originals: Float[Tensor, "b 3 s s"]) -> dict[str, Float[Tensor, "b"]]:
    """The values of `MEASURES`, one a picture."""
    return {"psnr": psnr(drawn, originals), "ssim": ssim(drawn, originals, WINDOWS["uniform7"])}


def summary(columns: Mapping[str, Float[Tensor, "n"]], seed: int) -> dict[str, Result]:
    """Means over pictures, with an interval where there are several."""

    def mean(metric: Metric, values: Float[Tensor, "n"]) -> Result:
        return mean_of(metric, values, RESAMPLES, seed) if len(values) > 1 else measured(metric, finite_list(values)[0])

    return {name: mean(MEASURES[name], values) for name, values in columns.items()}
