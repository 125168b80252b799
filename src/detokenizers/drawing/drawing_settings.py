"""What a drawing can be asked for: the keyword arguments of `generate` and `reconstruct`, which are also the options of
`detok generate` and `detok reconstruct`.

Nothing heavy is imported here, so the command line can explain itself at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from tyro.conf import FlagCreatePairsOff, Positional

from ..config import Config
from ..evaluation.evaluation_settings import AtLeastOne, Bench, Captions, NotNegative

Scenes = Literal["validation", "new-captions", "held-out"]
VLM = "mini"
"""Whose tokens are used unless a VLM is named."""


class DrawingConfig(Config):
    """How decoders draw, wherever they do."""

    decoder: tuple[str, ...] = ("mini/dcdd",)
    """Decoders, drawing from the same tokens: `mini/dcdd`, run folders, and `vq`, which is the VLM's own."""
    steps: AtLeastOne | None = None
    """Sampling steps of diffusion decoders; each one's own default unless given."""
    seed: NotNegative = 0
    """With the item's id it decides every random draw; order and batch size never do."""
    decode_batch: AtLeastOne = 1
    """Pictures that a decoder draws at once, at most. One is the same to the byte for any request; more are faster, and
    the same up to rounding, since kernels round by the size of a batch."""
    shards: NotNegative = 0
    """Put so many pictures at a time into one tar, as webdataset has them, instead of leaving a file each; 0 keeps files.
    `evaluate` and training read either."""
    ray: NotNegative = 0
    """Draw with so many workers of Ray (the extra `ray`), on the cluster of RAY_ADDRESS or on this machine."""
    device: str = "auto"
    """`auto` (CUDA if there is any), `cpu`, `cuda`, `cuda:1`."""


class GenerateConfig(DrawingConfig):
    """Which prompts are drawn, how the VLM samples them, and where the pictures go."""

    vlm: str | None = None
    """The frozen VLM: `mini`, a folder, a Hub id such as deepseek-community/Janus-Pro-7B, or llamagen-xl@DIR. Unless
    given, tokens are those of `mini`. It is not loaded where no decoder draws from tokens; models that draw from prompts
    bring their own, and are held to the one that is named, if one is."""
    text: Positional[tuple[str, ...]] = ()
    """What to draw, one prompt an argument, in quotes."""
    prompts: Path | None = None
    """More of them from a file: .txt (one a line), .jsonl, GenEval, DPG-Bench or MJHQ-30K format. Blank lines are
    passed over. A .jsonl line's "seed" is its picture's seed, whatever --seed is."""
    world: NotNegative = 0
    """Also draw this many captions of the embedded world."""
    split: Captions = "prompts"
    """Which captions: `prompts`, all different and in combinations never trained on; or those of the scenes of a split,
    e.g. of `validation`, which are like those trained on. `detok evaluate` takes the same word."""
    bench: Bench | None = None
    """Draw a benchmark instead, in its official layout (docs/benchmarks.md), with its number of pictures a prompt."""
    bench_file: Path | None = None
    """Its official file: GenEval's evaluation_metadata.jsonl, DPG's dpg_bench.csv, MJHQ-30K's meta_data.json."""
    count: NotNegative = 0
    """Pictures of --bench world, in equal numbers for its six tasks."""
    partial: FlagCreatePairsOff[bool] = False
    """Accept a file with some of the benchmark's prompts."""
    compare: FlagCreatePairsOff[bool] = False
    """Put the VLM's own VQ decoder first and the uncertainty of every token last on the sheet."""
    guidance: float | None = None
    """Classifier-free guidance of the VLM; its own default unless given (Janus 5, LlamaGen 7.5). Models that draw from
    prompts, without tokens, get the same number, or take their own default."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Temperature of the VLM's sampling."""
    per_prompt: AtLeastOne = 1
    """Images per prompt, each with its own seed."""
    batch: AtLeastOne = 8
    """Prompts that go through the VLM together, at most."""
    out: Path
    """Folder for the pictures."""


class ReconstructConfig(DrawingConfig):
    """Which pictures are taken to tokens and back, and where the results go."""

    vlm: str = VLM
    """The VLM whose tokenizer reads the pictures: `mini`, a folder, a Hub id such as deepseek-community/Janus-Pro-7B, or
    llamagen-xl@DIR."""
    images: Positional[tuple[Path, ...]] = ()
    """Pictures and folders of pictures, of any size: the shorter side is resized to the VLM's, up or down, and the
    centre is cut out, as in training."""
    smallest: AtLeastOne = 1
    """Refuse pictures whose shorter side has fewer pixels; at 1 none is refused, and small ones are enlarged."""
    world: NotNegative = 0
    """Use this many scenes of the embedded world instead."""
    split: Scenes = "validation"
    """Which scenes: like those trained on, with captions never trained on, or of objects never trained on."""
    decoder: tuple[str, ...] = ("vq", "mini/dcdd")
    """Decoders to compare; the first is the baseline. Two ceilings: `vq-unrounded`, the VLM's own decoder on features
    that were not rounded to codes, and the folder of an autoencoder such as `mini/vae`, there and back."""
    out: Path
    """Folder for the pictures."""
