"""Prompts to pictures, by several decoders from the same tokens of the same VLM.

prompts -> items (id, text, seed) -VLM, in batches, observed for all decoders of tokens-> tokens/ITEM.safetensors
        -each decoder, `decode_batch` at a time-> DECODER/ITEM.png -> manifest, contact sheet

What an item looks like depends on its prompt and its seed, which its file gives, or which follows from its id and
`seed`. Every batch of a call has the same shape, whatever is in it, so that neither order nor an interruption can
change a byte, nor the number of processes that share the items; what is there already is not drawn again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ..data.marks import SHEET
from ..device import device_of
from ..papers import load_vlm
from ..protocols import TokenVLM, VisualTokens
from ..seeds import item_seed
from .batching import chunks, evenly, filled
from .decoders import (
    BASELINE,
    CONFIDENCE,
    Drawer,
    Named,
    labelled,
    load_decoders,
    observers_of,
    of_tokens,
    steps_note,
    steps_of,
)
from .drawing_settings import VLM, GenerateConfig
from .gallery import Drawn, Gallery
from .items import Item, items_of, prompts_of
from .kept_tokens import KeptTokens
from .layouts import Layout, layout_of
from .sharing import Progress, drawn_together


def generate(
    text: str | Sequence[str] = (),
    *,
    vlm: str | TokenVLM | None = None,
    decoder: Named = ("mini/dcdd",),
    **settings: Any,
) -> Drawn:
    """Draw what is missing, then write manifest and contact sheet; of several processes each draws its share, and the
    first writes these two when all is there.

    Args:
        text: what to draw, one prompt or several.
        vlm: the frozen VLM, by name or itself; an object is called by the name of its class in the notes of pictures.
            It is loaded if any decoder draws from tokens, `mini` if none is given. A model that draws from prompts must
            have been made for the one that is named, if one is.
        decoder: names, or decoders by the labels that they get.
        settings: the others of `GenerateConfig`; `out` is needed.

    Raises:
        ValueError: a setting does not fit, a picture is there and was made otherwise, or another process died.
    """
    asked = labelled(decoder)
    config = GenerateConfig.parse(
        {
            "text": (text,) if isinstance(text, str) else tuple(text),
            "vlm": vlm if isinstance(vlm, str | None) else type(vlm).__name__,
            "decoder": tuple(label for label, _ in asked),
            **settings,
        }
    )
    if config.compare:
        asked = [(BASELINE, BASELINE), *(pair for pair in asked if pair[1] != BASELINE)]
    generation = prepared(config, vlm, asked)
    items, gallery, decoders = generation.items, generation.gallery, generation.decoders
    gallery.expect([generation.row(item) for item in items])
    if not drawn_together(generation, config.out, "drawing", (prepared, config, vlm, asked), config.ray):
        return Drawn(gallery, tuple(decoders), tuple(generation.row(item) for item in items), config.out / SHEET)
    if generation.layout:
        generation.layout.finish(gallery, decoders)
    rows = gallery.record(generation.row(item) for item in items)
    ids = {item.id for item in items}
    sheet = gallery.show(
        [row for row in rows if row["id"] in ids or generation.would_draw(row)],
        list(decoders),
        note=f"{generation.note}seed {config.seed}; {steps_note(generation.steps)}",
        confidence=generation.confidence if config.compare else None,
    )
    return Drawn(gallery, tuple(decoders), tuple(row for row in rows if row["id"] in ids), sheet)


def prepared(
    config: GenerateConfig, vlm: str | TokenVLM | None, asked: Sequence[tuple[str, str | Drawer]]
) -> Generation:
    """All that draws a unit of what is asked for.

    Raises:
        ValueError: a setting does not fit, or the VLM cannot read a prompt.
    """
    layout = layout_of(config) if config.bench else None
    items, gallery = items_of(config, layout.pictures if layout else prompts_of(config)), Gallery(config.out)
    device = device_of(config.device)
    model = cache(lambda: load_vlm(vlm or VLM, device=device) if isinstance(vlm, str | None) else vlm)
    decoders = load_decoders(asked, lambda: model().tokenizer, device, vlm if isinstance(vlm, str) else None)
    sampler = model() if of_tokens(decoders) else None
    if sampler is not None:
        sampler.check([item.text for item in items])
    return Generation(config, sampler, decoders, gallery, items, layout)


class Generation:
    """A VLM, where a decoder draws from its tokens, decoders, and the items that they draw into a gallery."""

    def __init__(
        self,
        config: GenerateConfig,
        vlm: TokenVLM | None,
        decoders: Mapping[str, Drawer],
        gallery: Gallery,
        items: Sequence[Item],
        layout: Layout | None = None,
    ) -> None:
        self.config, self.vlm, self.decoders, self.gallery = config, vlm, decoders, gallery
        self.items, self.layout = items, layout
        self.of_tokens = of_tokens(decoders)
        self.observers = observers_of(self.of_tokens)
        self.tokens = KeptTokens(gallery.folder)
        self.sampling: dict[str, Any] = {}
        self.note = ""
        if vlm is not None:
            guidance = vlm.guidance if config.guidance is None else config.guidance
            name = config.vlm or VLM
            self.sampling = {
                "vlm": name,
                "vlm_weights": vlm.fingerprint(),
                "guidance": guidance,
                "temperature": config.temperature,
            }
            self.note = f"{name}, guidance {guidance:g}, "
        self.weights = {label: decoder.fingerprint() for label, decoder in decoders.items()}
        self.steps = steps_of(config.steps, decoders)
        self.width = 0 if vlm is None else vlm.width([item.text for item in items])
        self.rows = evenly(len(items), config.batch)
        self.decode_rows = evenly(len(items), config.decode_batch)
        self.together = max(self.rows, self.decode_rows)
        self.units = list(chunks(items, config.shards or self.together))

    @property
    def sizes(self) -> list[int]:
        return [len(unit) for unit in self.units]

    def draw(self, unit: int, progress: Progress) -> None:
        """Draw every picture of a unit that is not there yet, and make it a shard if that is asked for."""
        items = self.units[unit]
        open_items = [item for item in items if self.lacking(item)]
        progress(len(items) - len(open_items))
        for batch in chunks(open_items, self.together):
            for few in chunks([item for item in batch if self.lacks_tokens(item)], self.rows):
                self.sample(few)
            for few in chunks(batch, self.decode_rows):
                for label in self.decoders:
                    self.decode(label, [item for item in few if label in self.lacking(item)])
                progress(len(few))
        if self.config.shards:
            self.tokens.pack(unit, [item.id for item in items])
            for label in self.decoders:
                self.gallery.pack(label, unit, {item.id: item.text for item in items})

    def done(self, unit: int) -> bool:
        """Whether every picture of a unit is there, and in a shard if that is asked for."""
        items = self.units[unit]
        if self.config.shards:
            if not all(self.gallery.packed(label, [item.id for item in items]) for label in self.decoders):
                return False  # and another process may be moving them
            self.tokens.files.refresh()
        return not any([self.lacking(item) for item in items])

    def lacking(self, item: Item) -> list[str]:
        """Labels of the decoders that have not drawn this item."""
        return [label for label in self.decoders if self.gallery.lacks(label, item.id, self.notes(item, label))]

    def lacks_tokens(self, item: Item) -> bool:
        """Whether the VLM has still to sample what a missing picture of this item is drawn from."""
        waiting = [self.of_tokens[label] for label in self.lacking(item) if label in self.of_tokens]
        needed = {name for decoder in waiting for name in decoder.needs}
        return bool(waiting) and not self.tokens.has(item.id, needed, self.facts(item))

    def sample(self, items: Sequence[Item]) -> None:
        """Let the VLM sample the tokens of a batch, and keep them with what was observed for the decoders."""
        assert self.vlm is not None
        rows = filled(items, self.rows)
        tokens = self.vlm.generate(
            [item.text for item in rows],
            seeds=[item.seed for item in rows],
            width=self.width,
            guidance=self.sampling["guidance"],
            temperature=self.config.temperature,
            observe=self.observers,
            batch_size=self.rows,
        )
        for row, item in enumerate(items):
            self.tokens.write(item.id, tokens, row, {**self.facts(item), "codes": len(self.vlm.tokenizer.codebook)})

    def decode(self, label: str, items: Sequence[Item]) -> None:
        """Draw some items at once by one decoder, from their kept tokens or from their prompts."""
        if not items:
            return
        rows, decoder, steps = filled(items, self.decode_rows), self.decoders[label], self.steps.get(label)
        seeds, prompts = [item.seed for item in rows], [item.text for item in rows]
        if decoder.source == "tokens":
            tokens = VisualTokens.join([self.tokens.read(item.id, decoder.needs) for item in rows])
            images = decoder(replace(tokens, captions=prompts), steps=steps, seeds=seeds)
        else:
            images = decoder(prompts, seeds=seeds, guidance=self.config.guidance, steps=steps)
        for item, image in zip(items, images):
            self.gallery.keep(label, item.id, image, self.notes(item, label))

    def confidence(self, id: str) -> Float[Tensor, "gh gw"]:
        """The largest probability of every token of an item."""
        tokens = self.tokens.read(id, [CONFIDENCE])
        return tokens.observed[CONFIDENCE].view(*tokens.grid)

    def facts(self, item: Item) -> dict[str, Any]:
        """What an item is, and how its tokens are sampled."""
        return {"prompt": item.text, "seed": item.seed, **self.sampling}

    def notes(self, item: Item, label: str) -> dict[str, Any]:
        """What decides one picture."""
        # Without tokens no VLM has a part in it; and null is the model's own guidance.
        sampling = self.sampling if label in self.of_tokens else {"guidance": self.config.guidance}
        notes = {"prompt": item.text, "seed": item.seed, **sampling, "decoder": label, "weights": self.weights[label]}
        return {**notes, "steps": self.steps[label]} if label in self.steps else notes

    def row(self, item: Item) -> dict[str, Any]:
        """An item's line of the manifest."""
        return {"id": item.id, **self.facts(item), "decoders": list(self.decoders)}

    def would_draw(self, row: Mapping[str, Any]) -> bool:
        """Whether a line of the manifest, maybe an earlier command's, is what this command would write."""
        facts = self.facts(Item(row["id"], row.get("prompt", ""), item_seed(self.config.seed, row["id"])))
        return facts.items() <= row.items()
