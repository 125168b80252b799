"""What an evaluation can be asked for: the keyword arguments of `evaluate`, `save_reference` and `benchmarks.score`,
which are also the options of `detok evaluate`.

Nothing heavy is imported here, so the command line can explain itself at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from tyro.conf import FlagCreatePairsOff, Positional

from ..config import Config

AtLeastOne = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
Bench = Literal["geneval", "dpg", "mjhq", "world"]
Captions = Literal["prompts", "validation", "new-captions", "held-out"]
OFFICIAL = {
    "geneval": "prompts/evaluation_metadata.jsonl of github.com/djghosh13/geneval",
    "dpg": "dpg_bench/dpg_bench.csv of github.com/TencentQQGYLab/ELLA",
    "mjhq": "meta_data.json of huggingface.co/datasets/playgroundai/MJHQ-30K",
}
"""Where the file of a benchmark's prompts is found."""


class DrawnConfig(Config):
    """Drawn pictures, what they are measured against and by which network."""

    drawn: Positional[tuple[Path, ...]] = ()
    """The folders of pictures to measure, one row each; the first is the baseline."""
    reference: Path | None = None
    """The folder of real pictures, or their statistics: a file of --save-reference, or an .npz with mu and sigma."""
    protocol: str = "world"
    """The rules: `world` (ours), or those behind published numbers: rfid-in50k, adm-256, mjhq-cleanfid, evalgim, ..."""
    allow: tuple[Literal["missing", "corrupt", "copies", "any-n"], ...] = ()
    """Count and list these instead of failing: pictures not there, damaged, alike to the byte; another N."""
    net: str = "mini/world_net"
    """The network behind `world` metrics: a folder with a trained WorldNet."""
    seed: NotNegative = 0
    """Decides the bootstrap intervals."""
    device: str = "auto"
    """`auto` (CUDA if there is any), `cpu`, `cuda`."""
    out: Path | None = None
    """Folder for the report; the first measured folder unless given."""

    @property
    def any_n(self) -> bool:
        """Whether another number of pictures than the protocol's is accepted."""
        return "any-n" in self.allow


class BenchmarkConfig(DrawnConfig):
    """A benchmark's pictures in its official layout, and the networks that judge them."""

    bench: Bench | None = None
    """Score a benchmark's pictures instead, in the layout `detok generate --bench` leaves (docs/benchmarks.md)."""
    bench_file: Path | None = None
    """Its official file; needed for dpg and mjhq, checked against for geneval."""
    partial: FlagCreatePairsOff[bool] = False
    """Score some of the benchmark's prompts; the result says so."""
    judge: str | None = None
    """The judge, a folder or Hub id. geneval: a Mask2Former; dpg: a Qwen2.5-VL; world: a WorldNet, `--net` if none."""
    colour_judge: str | None = None
    """The judge of colours for geneval: a CLIP."""
    official_quirks: FlagCreatePairsOff[bool] = False
    """Compute the DPG score as its published script does, mistakes included."""
    resolution: AtLeastOne | None = None
    """Side of one picture in DPG-Bench's grids; half the grid unless given."""


class EvaluationConfig(DrawnConfig):
    """Metrics of drawn pictures against a reference."""

    compare: tuple[str, str] | None = None
    """Two decoders (of the folder) or two folders: is the second better, worse, or is there no difference?"""
    world: NotNegative = 0
    """Use this many scenes of the embedded world as the reference."""
    split: Captions = "validation"
    """Which scenes, as for `detok reconstruct`; `prompts`: one of each caption that `detok generate --world` draws."""
    metrics: tuple[str, ...] = ()
    """What to measure, by name (docs/evaluation.md lists them); the protocol's choice unless given."""
    prompts: Path | None = None
    """What the pictures should show, by id, for clipscore; a folder that `generate` left has its own."""
    resamples: NotNegative | None = None
    """Resamples behind the interval of a Fréchet distance; 0 keeps statistics only, so memory stays flat."""
    shard: str | None = None
    """Measure only these shards, as 1/4 to 4/4; torchrun's RANK and WORLD_SIZE mean the same."""
    shard_size: AtLeastOne = 512
    """Pictures per shard."""


def official_file(bench: str, file: Path | None) -> Path:
    """The file of a benchmark's prompts, for benchmarks that need it."""
    if file is None:
        raise ValueError(f"--bench {bench} needs --bench-file, which is {OFFICIAL[bench]}")
    return file
