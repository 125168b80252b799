"""The pictures to be: every one has an id, which names its files, a prompt, and a seed, which decides every draw.

settings -prompts_of-> prompts -items_of-> items
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ..data.pictures import truths
from ..data.prompts import Prompt, read_prompts
from ..data.world.scenes import caption
from ..data.world.world import World
from ..seeds import item_seed
from ..texts import require_whole
from .drawing_settings import GenerateConfig

LONGEST_ID = 255 - len(".safetensors")
"""Bytes that a file system gives a name, and that our longest suffix leaves."""
LONGEST_SLUG = 80


class Item(NamedTuple):
    """One picture to be."""

    id: str
    text: str
    seed: int


def items_of(config: GenerateConfig, prompts: Sequence[Prompt]) -> list[Item]:
    """Every prompt `per_prompt` times. A seed of the file's is its first picture's, and further ones follow from it."""
    items: list[Item] = []
    for prompt in prompts:
        first = item_seed(config.seed, prompt.id) if prompt.seed is None else prompt.seed
        items.append(Item(prompt.id, prompt.text, first))
        # The first picture of a prompt keeps its name and seed however many follow.
        for index in range(1, config.per_prompt):
            id = f"{prompt.id}-{index}"
            seed = item_seed(config.seed, id) if prompt.seed is None else item_seed(prompt.seed, str(index))
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


def prompts_of(config: GenerateConfig) -> list[Prompt]:
    """The prompts given as text, then those of the file, then captions of the world."""
    if config.bench_file or config.count or config.partial:
        raise ValueError("--bench-file, --count and --partial belong to a benchmark; name it with --bench")
    if config.split != "prompts" and not config.world:
        raise ValueError(f"--split {config.split} is about captions of the world; say how many to draw with --world N")
    prompts = [Prompt(slug(text), text) for text in config.text]
    prompts += read_prompts(config.prompts) if config.prompts else []
    prompts += [
        Prompt(f"world-{row:05d}", caption(truth))
        for row, truth in enumerate(truths(World(), config.world, config.split))
    ]
    if not prompts:
        raise ValueError(
            'there is nothing to draw; give prompts ("a dog on grass"), --prompts FILE, --world N or --bench NAME'
        )
    return prompts


def slug(text: str) -> str:
    """A prompt as a file name, in letters of any script.

    A hash of the prompt follows wherever the name is not all of it (capitals, signs, a cut), so that different prompts
    have different names, and a prompt has the same name in any company.
    """
    require_whole(text, "the prompt")
    if not any(unicodedata.category(letter)[0] in "LNS" for letter in text):
        raise ValueError(f"the prompt {text!r} has no words, digits or symbols")
    letters = unicodedata.normalize("NFC", text.lower())
    words = "".join(one if unicodedata.category(one)[0] in "LMN" else " " for one in letters).split()
    name = "-".join(words)[:LONGEST_SLUG].encode()[: 2 * LONGEST_SLUG].decode(errors="ignore").strip("-")
    if name.replace("-", " ") == text:
        return name
    return "-".join(part for part in (name, hashlib.sha256(text.encode()).hexdigest()[:8]) if part)
