"""`detok generate`: prompts to pictures, by several decoders from the same tokens of the same VLM.

prompts -> items (id, text, seed) -VLM, in batches, observed for all decoders-> tokens/ITEM.safetensors
        -each decoder, --decode-batch at a time-> DECODER/ITEM.png -> manifest, contact sheet

What an item looks like depends on its prompt and its seed, which its file gives, or which follows from its id and
--seed. Every batch of a request has the same shape, whoever is in it, so that neither order nor an interruption can
change a byte; what is there already is not drawn again.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from ..checkpoint import load_tensors, notes_in, save_tensors
from ..cli.verbs import Generate
from ..config import swallowed
from ..data.marks import TOKENS
from ..data.pictures import truths
from ..data.prompts import Prompt, read_prompts
from ..data.world.scenes import caption
from ..data.world.world import World
from ..device import device_of
from ..pretrained.vlm.loading import load_vlm
from ..protocols import Decoder, Grid, TokenVLM, VisualTokens
from ..seeds import item_seed
from ..texts import require_whole
from .decoders import (
    BASELINE,
    CONFIDENCE,
    evenly,
    filled,
    load_decoders,
    observers_of,
    steps_of,
    taken,
)
from .gallery import Gallery, require_same
from .layouts import layout_of
from .sources import guidance_of

LONGEST_ID = 255 - len(".safetensors")
"""Bytes that a file system gives a name, and that our longest suffix leaves."""
LONGEST_SLUG = 80
SOLID = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
"""Scripts that put no spaces between words, as Unicode calls their letters."""


class Item(NamedTuple):
    """One picture to be: its id names the files, its seed decides every draw."""

    id: str
    text: str
    seed: int


def run(request: Generate) -> None:
    """Draw what is missing, then write manifest and contact sheet."""
    layout = layout_of(request) if request.bench else None
    items, gallery = items_of(request, layout.pictures if layout else prompts_of(request)), Gallery(request.out)
    device = device_of(request.device)
    vlm = load_vlm(request.vlm, device=device)
    names = [name for name in request.decoder if name != BASELINE or not request.compare]
    decoders = load_decoders([BASELINE, *names] if request.compare else names, vlm.tokenizer, device)
    vlm.check([item.text for item in items])
    studio = Studio(request, vlm, decoders, gallery)
    studio.draw(items)
    if layout:
        layout.finish(gallery, decoders)
    rows = gallery.record(studio.row(item) for item in items)
    sheet = gallery.show(
        [row for row in rows if studio.would_draw(row)],
        list(decoders),
        note=f"{request.vlm}, guidance {studio.guidance:g}, seed {request.seed}; {taken(studio.steps)}",
        confidence=studio.confidence if request.compare else None,
    )
    print(f"{len(items)} item{'s' * (len(items) > 1)} by {', '.join(decoders)} in {request.out}; look at {sheet}")


class Studio:
    """A VLM, decoders, and the gallery they fill."""

    def __init__(self, request: Generate, vlm: TokenVLM, decoders: Mapping[str, Decoder], gallery: Gallery) -> None:
        self.request, self.vlm, self.decoders, self.gallery = request, vlm, decoders, gallery
        self.observers = observers_of(decoders)
        self.guidance = guidance_of(request.guidance, vlm)
        self.weights = vlm.fingerprint()
        self.identities = {label: decoder.fingerprint() for label, decoder in decoders.items()}
        self.steps = steps_of(request.steps, decoders)

    def draw(self, items: list[Item]) -> None:
        """Draw every picture that is not there yet."""
        self.gallery.expect([self.row(item) for item in items])
        self.width = self.vlm.width([item.text for item in items])
        self.rows = evenly(len(items), self.request.batch)
        self.decode_rows = evenly(len(items), self.request.decode_batch)
        open_items = [item for item in items if any(list(self.lacking(item)))]
        with tqdm(total=len(items), initial=len(items) - len(open_items), desc="drawing", disable=None) as bar:
            for batch in chunks(open_items, self.rows):
                self.sample([item for item in batch if not self.is_sampled(item)])
                for few in chunks(batch, self.decode_rows):
                    for label in self.decoders:
                        self.decode(label, [item for item in few if label in self.lacking(item)])
                    bar.update(len(few))

    def decode(self, label: str, items: Sequence[Item]) -> None:
        """Let one decoder draw some items at once, from their kept tokens."""
        if not items:
            return
        rows = filled(items, self.decode_rows)
        tokens = VisualTokens.join([self.tokens(item, label) for item in rows])
        seeds = [item.seed for item in rows]
        for item, image in zip(items, self.decoders[label](tokens, steps=self.steps.get(label), seeds=seeds)):
            self.gallery.keep(label, item.id, image, self.notes(item, label))

    def lacking(self, item: Item) -> Iterator[str]:
        """Labels of the decoders that have not drawn this item."""
        return (label for label in self.decoders if self.gallery.lacks(label, item.id, self.notes(item, label)))

    def sample(self, items: list[Item]) -> None:
        """Let the VLM sample the tokens of a batch, and keep them with what was observed for the decoders."""
        if not items:
            return
        rows = filled(items, self.rows)
        tokens = self.vlm.generate(
            [item.text for item in rows],
            seeds=[item.seed for item in rows],
            width=self.width,
            guidance=self.guidance,
            temperature=self.request.temperature,
            observe=self.observers,
            batch_size=self.rows,
        )
        for row, item in enumerate(items):
            kept = {"ids": tokens.ids[row], "grid": torch.tensor(tokens.grid)}
            kept |= {name: observed[row] for name, observed in tokens.observed.items()}
            save_tensors(self.tokens_path(item.id), kept, notes=json.dumps(self.facts(item)))

    def is_sampled(self, item: Item) -> bool:
        """Whether this item's tokens are kept, with all that its missing pictures need.

        Raises:
            ValueError: they are, but from another prompt, seed or VLM.
        """
        path = self.tokens_path(item.id)
        if not path.exists():
            return False
        require_same(path, notes_in(path), self.facts(item))
        needed = {name for label in self.lacking(item) for name in self.decoders[label].needs}
        return needed <= set(load_tensors(path))

    def tokens(self, item: Item, label: str) -> VisualTokens:
        """The item's tokens, with what one decoder needs."""
        kept = load_tensors(self.tokens_path(item.id))
        rows, columns = kept["grid"].tolist()
        observed = {name: kept[name][None] for name in self.decoders[label].needs}
        return VisualTokens(kept["ids"][None], Grid(rows, columns), observed)

    def confidence(self, id: str) -> Tensor:
        """The largest probability of every token of an item, on the grid."""
        kept = load_tensors(self.tokens_path(id))
        return kept[CONFIDENCE].view(*kept["grid"].tolist())

    def tokens_path(self, id: str) -> Path:
        return self.gallery.folder / TOKENS / f"{id}.safetensors"

    def facts(self, item: Item) -> dict[str, Any]:
        """What all pictures of an item share."""
        asked = self.request
        return {
            "prompt": item.text,
            "seed": item.seed,
            "vlm": asked.vlm,
            "vlm_weights": self.weights,
            "guidance": self.guidance,
            "temperature": asked.temperature,
        }

    def row(self, item: Item) -> dict[str, Any]:
        """An item's line of the manifest."""
        return {"id": item.id, **self.facts(item), "decoders": list(self.decoders)}

    def would_draw(self, row: Mapping[str, Any]) -> bool:
        """Whether a line of the manifest, maybe an earlier command's, says what this command's would."""
        facts = self.facts(Item(row["id"], row.get("prompt", ""), row.get("seed", 0)))
        return facts.items() <= row.items()

    def notes(self, item: Item, label: str) -> dict[str, Any]:
        """What decides one picture."""
        how = {"steps": self.steps[label]} if label in self.steps else {}
        return {**self.facts(item), "decoder": label, "weights": self.identities[label], **how}


def chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[first : first + size] for first in range(0, len(items), size))


def items_of(request: Generate, prompts: Sequence[Prompt]) -> list[Item]:
    """Every prompt `per_prompt` times. A seed of the file's is its first picture's, and further ones follow from it."""
    items: list[Item] = []
    for prompt in prompts:
        first = item_seed(request.seed, prompt.id) if prompt.seed is None else prompt.seed
        items.append(Item(prompt.id, prompt.text, first))
        # The first picture of a prompt keeps its name and seed however many follow.
        for index in range(1, request.per_prompt):
            id = f"{prompt.id}-{index}"
            seed = item_seed(request.seed, id) if prompt.seed is None else item_seed(prompt.seed, str(index))
            items.append(Item(id, prompt.text, seed))
    again = [id for id, count in Counter(item.id for item in items).items() if count > 1]
    if again:
        raise ValueError(f"two pictures would be called {again[0]!r}; to draw a prompt several times use --per-prompt")
    for item in items:
        if (length := max(len(part.encode()) for part in item.id.split("/"))) > LONGEST_ID:
            raise ValueError(
                f"the id {item.id[:40]!r}... is {length} bytes long, and file names have room for {LONGEST_ID}"
            )
    return items


def prompts_of(request: Generate) -> list[Prompt]:
    """Prompts of the command line, then of the file, then of the world."""
    if request.bench_file or request.count or request.partial:
        raise ValueError("--bench-file, --count and --partial belong to a benchmark; name it with --bench")
    if request.split != "prompts" and not request.world:
        raise ValueError(f"--split {request.split} is about captions of the world; say how many to draw with --world N")
    require_quotes(request.text)
    prompts = [Prompt(slug(text), text) for text in request.text]
    prompts += read_prompts(request.prompts) if request.prompts else []
    prompts += [
        Prompt(f"world-{row:05d}", caption(truth))
        for row, truth in enumerate(truths(World(), request.world, request.split))
    ]
    if not prompts:
        raise ValueError(
            'there is nothing to draw; give prompts ("a dog on grass"), --prompts FILE, --world N or --bench NAME'
            f"{swallowed(request, 'decoder')}"
        )
    return prompts


def require_quotes(texts: Sequence[str]) -> None:
    """Refuse words that were one prompt before the shell took it apart."""
    if len(texts) > 1 and all(len(text.split()) == 1 and not is_solid(text) for text in texts):
        raise ValueError(
            f"these are {len(texts)} prompts of one word each; for one picture put them in quotes, "
            f'detok generate "{" ".join(texts)}", and for {len(texts)} pictures in a file, one a line: --prompts FILE'
        )


def is_solid(text: str) -> bool:
    """Whether a text is in a script that puts no spaces between words."""
    return any(unicodedata.name(letter, "").startswith(SOLID) for letter in text)


def slug(text: str) -> str:
    """A prompt as a file name, in letters of any script.

    A hash of the prompt follows wherever the name is not all of it (capitals, signs, a cut), so that different prompts
    have different names, and a prompt has the same name in any company.
    """
    require_whole(text, "the prompt")
    if not any(unicodedata.category(letter)[0] in "LNS" for letter in text):
        raise ValueError(f"the prompt {text!r} says nothing")
    letters = unicodedata.normalize("NFC", text.lower())
    words = "".join(one if unicodedata.category(one)[0] in "LMN" else " " for one in letters).split()
    name = "-".join(words)[:LONGEST_SLUG].encode()[: 2 * LONGEST_SLUG].decode(errors="ignore").strip("-")
    if name.replace("-", " ") == text:
        return name
    return "-".join(part for part in (name, hashlib.sha256(text.encode()).hexdigest()[:8]) if part)
