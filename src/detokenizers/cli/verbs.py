"""High-fidelity visual decoding for vision-language models: from tokens, beliefs and features to pixels.

Try: detok generate "two red apples on a wooden table" --compare --out out/
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from tyro.conf import FlagCreatePairsOff, Positional

from ..config import Config
from ..evaluation.settings import AtLeastOne, Bench, BenchmarkConfig, Captions, EvaluationConfig, NotNegative

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Scenes = Literal["validation", "new-captions", "held-out"]


class Drawing(Config):
    """How decoders draw, wherever they do."""

    vlm: str = "mini"
    """The frozen VLM: `mini`, a folder, a Hub id such as deepseek-community/Janus-Pro-7B, or llamagen-xl@DIR."""
    decoder: tuple[str, ...] = ("mini/dcdd",)
    """Decoders, drawing from the same tokens: `mini/dcdd`, run folders, and `vq`, which is the VLM's own."""
    steps: AtLeastOne | None = None
    """Sampling steps of diffusion decoders; each one's own default unless given."""
    seed: NotNegative = 0
    """With the item's id it decides every random draw; order and batch size never do."""
    decode_batch: AtLeastOne = 1
    """Pictures that a decoder draws at once, at most. One is the same to the byte for any request; more are faster, and
    the same up to rounding, since kernels round by the size of a batch."""
    device: str = "auto"
    """`auto` (CUDA if there is any), `cpu`, `cuda`, `cuda:1`."""


class Generate(Drawing):
    """Draw images from prompts, by one or several decoders from the same tokens.

    Writes OUT/DECODER/ITEM.png (prompt, seed and settings travel inside), tokens/, manifest.jsonl and the contact sheet
    sheet.png. Run again, it goes on where it stopped and draws only what is missing.

    detok generate "two red apples on a wooden table" --compare --out out/
    """

    text: Positional[tuple[str, ...]] = ()
    """What to draw, one prompt an argument, in quotes."""
    prompts: Path | None = None
    """More of them from a file: .txt (one a line), .jsonl, GenEval, DPG-Bench or MJHQ-30K format. Blank lines are
    passed over. A .jsonl line's "seed" is its picture's seed, whatever --seed says."""
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
    """Classifier-free guidance of the VLM; its own default unless given (Janus 5, LlamaGen 7.5)."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Temperature of the VLM's sampling."""
    per_prompt: AtLeastOne = 1
    """Images per prompt, each with its own seed."""
    batch: AtLeastOne = 8
    """Prompts that go through the VLM together, at most."""
    out: Path
    """Folder for the pictures."""


class Reconstruct(Drawing):
    """Take images through the VLM's tokenizer and back, and say how near each decoder comes (PSNR, SSIM).

    Writes OUT/DECODER/ITEM.png, results.json, results.md and the contact sheet sheet.png.

    detok reconstruct photos/ --decoder vq mini/dcdd --out out/
    """

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


class Calibrate(Config):
    """Find the calibration that makes an encoder as sure of its codes as the VLM is (DCDD Eqs. 10-16).

    Measures the VLM's beliefs while it draws, searches, prints the paper's Table 1 (VLM, raw, calibrated) as Markdown
    and writes OUT (parameters, statistics, codebook fingerprint) beside a plot of the 30 most probable codes.

    detok calibrate --vlm mini --world 100 --out out/calibration.json
    """

    vlm: str = "mini"
    """The frozen VLM: `mini`, a folder, or a Hub id."""
    prompts: Path | None = None
    """What the VLM draws to measure its beliefs; captions of the embedded world unless given."""
    num_prompts: AtLeastOne = 100
    """At most this many prompts are drawn."""
    images: tuple[Path, ...] = ()
    """Pictures and folders whose encoder features are calibrated, prepared as in training."""
    smallest: AtLeastOne = 1
    """Refuse pictures whose shorter side has fewer pixels; at 1 none is refused, and small ones are enlarged."""
    world: NotNegative = 0
    """Use this many training scenes of the embedded world as images instead."""
    guidance: float | None = None
    """Classifier-free guidance of the VLM, as it will be used for drawing; the VLM's own default unless given."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Temperature of the VLM's sampling, as it will be used for drawing."""
    search: Literal["joint", "paper"] = "joint"
    """`joint` re-fits the sharpness for every smoothing value; `paper` follows the paper's order, guarded."""
    kappa_range: tuple[Positive, Positive] | None = None
    """Where the sharpness is looked for, and nowhere else. Unless given, the paper's 10 to 60, widened where that is
    needed: codes that lie close together need more."""
    epsilons: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
    """Amounts of smoothing to try. Smoothing fattens the tail, which the loss does not see and a decoder does
    (docs/log.md); `--epsilons 0` leaves it out."""
    objective: Literal["quantiles", "summaries"] = "quantiles"
    """What the search compares beside mean entropy: quantiles of entropy and confidence (Eq. 16), or the means of the
    four uncertainty features that the decoder reads (section 4.2), of which the tail entropy is one."""
    seed: NotNegative = 0
    """Decides the tokens the VLM draws."""
    batch: AtLeastOne = 8
    """Prompts drawn together."""
    device: str = "auto"
    """`auto` (CUDA if there is any), `cpu`, `cuda`."""
    out: Path
    """The .json file to write; the plot goes beside it."""


class Train(Config):
    """Train a recipe, or a run.yaml that a run left behind; a run that was cut off goes on to the bit.

    Every setting of the recipe can be overridden: `detok train RECIPE --help` lists them, `detok recipes` the recipes.

    detok train mini.vlm --train.lr 1e-3 --out runs/vlm
    """

    recipe: Positional[str]
    """A recipe's name, or a run.yaml."""
    out: Path
    """The run folder: run.yaml, weights, state, log, loss curve and preview."""


class Recipes(Config):
    """List the recipes, one per row of the papers' tables; or show one with all its settings."""

    name: Positional[str] = ""
    """Show this one."""


class Evaluate(BenchmarkConfig, EvaluationConfig):
    """Measure folders of pictures against a reference: FD, and PSNR, SSIM and PD where ids pair up.

    What `generate` and `reconstruct` leave is one row per decoder. Ids are relative paths without suffix. Distances
    carry the name of their network (`FD-world`); only what follows a published protocol is called FID.
    Writes results.json, results.md and a sheet; what it has measured is in shards/, so a killed run goes on.

    detok evaluate out/ --world 1000
    """

    save_reference: Path | None = None
    """Only measure the first folder (or --world) and write its statistics to this .safetensors file."""


class Info(Config):
    """Say what a run folder holds: recipe, steps done, tensors, sizes, fingerprints."""

    run: Positional[str]
    """A run folder, or something embedded such as `mini/dcdd`."""


VERBS: dict[str, type[Config]] = {
    kind.__name__.lower(): kind for kind in (Generate, Reconstruct, Describe, Calibrate, Train, Recipes, Evaluate, Info)
}


def name_of(request: Config) -> str:
    """The verb of a request, which is also the name of the file that does it."""
    return type(request).__name__.lower()


def recipe_in(arguments: Sequence[str]) -> str | None:
    """The first argument of `detok train` that is neither an option nor the folder after --out."""
    pairs = zip(["", *arguments], arguments)
    return next((this for before, this in pairs if not this.startswith("-") and before != "--out"), None)
