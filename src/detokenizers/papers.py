"""All papers of the house, and nothing else knows the list: their recipes, and how what they train is loaded.

name -find-> a recipe ; folder | name | Hub id -load, by the folder's kind-> Decoder | TextToImage
                                               -load_vlm-> TokenVLM -its tokenizer alone: load_tokenizer-> VisualTokenizer
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .checkpoint import here, kind_of, resolve
from .dcdd.model import DCDD
from .dcdd.pixel_runs import KINDS as PIXEL_KINDS
from .dcdd.pixel_runs import RECIPES as PIXEL_RECIPES
from .dcdd.recipes import RECIPES as DCDD_RECIPES
from .decoder import SpaceDecoder
from .hub.on_hub import OnHub
from .madit.loading import holds_codes, load_language, load_own_codes, writes_images
from .madit.model import MaDiT
from .madit.recipes import RECIPES as MADIT_RECIPES
from .mini.recipes import RECIPES as MINI_RECIPES
from .pretrained.spaces import VAE
from .pretrained.vlm import loading
from .protocols import Decoder, TextToImage, TokenVLM, VisualTokenizer
from .training import Run
from .training.distil_run import DistilRun, TeachingRun
from .training.run_folder import RECORD, recipe_in
from .vugen import KINDS as VUGEN_KINDS
from .vugen.recipes import RECIPES as VUGEN_RECIPES

RECIPES: Mapping[str, Callable[[], Run]] = {
    **MINI_RECIPES,
    **DCDD_RECIPES,
    **PIXEL_RECIPES,
    **VUGEN_RECIPES,
    **MADIT_RECIPES,
}

KINDS: Mapping[str, Callable[[Path], Decoder | TextToImage]] = {
    "dcdd": DCDD.load,
    "madit": MaDiT.load,
    **PIXEL_KINDS,
    **VUGEN_KINDS,
    "vae": lambda folder: SpaceDecoder(VAE.from_pretrained(folder)),
}
"""What loads a folder of each kind (`checkpoint.kind_of`)."""


def find(name: str) -> Callable[[], Run]:
    """The recipe of that name, or a ValueError that names the nearest ones."""
    if name not in RECIPES:
        near = get_close_matches(name, RECIPES, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(RECIPES)}"
        raise ValueError(f"there is no recipe {name!r}; {hint} (`detok recipes` lists them)")
    return RECIPES[name]


def run_of(name: str) -> Run:
    """A recipe by name, or what a run.yaml holds; the file's own `recipe` decides which settings it may have."""
    path = Path(name)
    if path.suffix.lower() not in (".yaml", ".yml"):
        return find(name)()
    return type(find(recipe_in(path))()).from_yaml(path)


def student_of(name: str | Path) -> DistilRun:
    """The run that distils what a run folder holds to one step, with the settings that it learnt with.

    Raises:
        ValueError: no run is there, or one of something else than a decoder of many steps.
    """
    folder = resolve(name)
    if not (folder / RECORD).is_file():
        raise ValueError(f"{name} has no {RECORD}; name the folder of a run that `detok train` left")
    run = run_of(str(folder / RECORD))
    if not isinstance(run, TeachingRun):
        teaching = (recipe for recipe in RECIPES if isinstance(RECIPES[recipe](), TeachingRun))
        raise ValueError(f"{name} is a run of {run.recipe}, which cannot be distilled; can be: {', '.join(teaching)}")
    distilled: Any = find(run.distilled)()
    return distilled.of(run, str(name))


def load(name: str | Path, *, device: str | torch.device = "cpu") -> Decoder | TextToImage:
    """Load what draws: a trained decoder, or a model from prompts to images. Nothing is downloaded unless `name` is a
    Hub id, owner/name.

    Args:
        name: `mini/dcdd` (embedded), the folder of a run, or a Hub id.

    Raises:
        ValueError: nothing is there, nothing that draws, or its weights are damaged or do not fit.
    """
    folder = resolve(name, ["*.yaml", "*.safetensors", "*.txt", "config.json", "*/config.json"])
    kind = kind_of(folder)
    if kind not in KINDS:
        raise ValueError(f"{folder} is of kind {kind!r}; this version knows {', '.join(KINDS)}")
    loaded = KINDS[kind](folder)
    if isinstance(loaded, OnHub):
        loaded.origin = folder
    if isinstance(loaded, nn.Module):
        loaded.to(device)
    return loaded


def load_vlm(name: str | Path = "mini", *, device: str | torch.device = "cpu") -> TokenVLM:
    """Load a frozen VLM that draws: a language model that a paper here trained, or one that
    `pretrained.vlm.loading.load_vlm` knows, with its names and errors."""
    folder = here(name)
    if folder is not None and writes_images(folder):
        return load_language(folder, device=device)
    return loading.load_vlm(name, device=device)


def load_tokenizer(name: str | Path = "mini", *, device: str | torch.device = "cpu") -> VisualTokenizer:
    """Load the visual tokenizer of a VLM without the VLM, or that of a decoder which has one of its own."""
    folder = here(name)
    if folder is not None and holds_codes(folder):
        return load_own_codes(folder, device=device)
    return loading.load_tokenizer(name, device=device)
