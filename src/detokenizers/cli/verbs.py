"""High-fidelity visual decoding for vision-language models: from tokens, distributions and features to pixels.

Try: detok generate "two red apples on a wooden table" --compare --out out/
"""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from ..config import Config
from ..drawing.settings import Scenes
from ..evaluation.settings import AtLeastOne, BenchmarkConfig, EvaluationConfig, NotNegative
from .calibrate import Calibrate
from .generate import Generate
from .info import Info
from .recipes import Recipes
from .reconstruct import Reconstruct
from .train import Train


class Describe(Config):
    """Let the VLM describe images: its understanding side, greedy, one line an image.

    With --world it also says how many captions are right, by kind of scene. Writes OUT, a .jsonl file, if it is given.

    detok describe photos/ --vlm mini
    """

    images: Positional[tuple[Path, ...]] = ()
    """Pictures and folders of pictures, of any size; the centre square is used."""
    world: NotNegative = 0
    """Describe this many scenes of the embedded world instead, and count the captions that are right."""
    split: Scenes = "validation"
    """Which scenes: like those trained on, with captions never trained on, or of objects never trained on."""
    vlm: str = "mini"
    """The frozen VLM: `mini`, a folder, or a Hub id of a Janus."""
    question: str | None = None
    """What a VLM with a chat template is asked about each image; to describe it unless given."""
    max_tokens: AtLeastOne = 64
    """Of the longest answer."""
    batch: AtLeastOne = 32
    """Images read together."""
    device: str = "auto"
    """`auto` (CUDA if there is any), `cpu`, `cuda`."""
    out: Path | None = None
    """A .jsonl file for the captions: one line of `id` and `caption` an image."""


class Evaluate(EvaluationConfig, BenchmarkConfig):
    """Measure folders of pictures against a reference: FD, and PSNR, SSIM and PD where ids pair up.

    What `generate` and `reconstruct` leave is one row per decoder. Ids are relative paths without suffix. Distances
    carry the name of their network (`FD-world`); only what follows a published protocol is called FID.
    Writes results.json, results.md and a sheet; what it has measured is in shards/, so a killed run goes on.

    detok evaluate out/ --world 1000
    """

    save_reference: Path | None = None
    """Only measure the first folder (or --world) and write its statistics to this .safetensors file."""


VERBS: dict[str, type[Config]] = {
    kind.__name__.lower(): kind for kind in (Generate, Reconstruct, Describe, Calibrate, Train, Recipes, Evaluate, Info)
}
