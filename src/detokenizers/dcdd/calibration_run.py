"""Logit Calibration of one VLM from beginning to end (DCDD B.2): how certain is it of its tokens, and which numbers make
the encoder as certain?

prompts -VLM, observed-> targets ; images -encoder-> features ; both -search-> report.json, Table 1, curve.png
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from ..checkpoint import atomic
from ..data.marks import require_writable
from ..data.pictures import pictures
from ..data.prompts import Prompt, read_prompts
from ..data.world.world import World
from ..device import device_of
from ..pretrained.vlm.loading import load_vlm
from ..protocols import TokenVLM
from ..seeds import item_seed
from .calibrate import CalibrationReport, calibrate, encoder_statistics
from .calibration_settings import CalibrationSettings
from .search import SearchConfig, Step, SummaryWeights, Weights
from .token_statistics import TokenStatistics

TOP = 30
"""Codes in the plot."""


@dataclass(frozen=True)
class Calibrated:
    """What was found, and the columns of Table 1."""

    report: CalibrationReport
    columns: Mapping[str, TokenStatistics]
    num_prompts: int
    num_images: int
    out: Path
    plot: Path

    def table(self) -> str:
        """The paper's Table 1 and, below it, the geometry gap, as Markdown."""
        rows = {name: column.table1() | column.geometry() for name, column in self.columns.items()}
        lines = [f"| statistic | {' | '.join(rows)} |", f"|---|{'---:|' * len(rows)}"]
        for key in next(iter(rows.values())):
            lines.append(f"| {key.replace('_', ' ')} | {' | '.join(f'{row[key]:.6g}' for row in rows.values())} |")
        return "\n".join(lines)

    def summary(self) -> str:
        """The numbers that were found, from how much, and the files."""
        found = self.report.calibration
        return (
            f"kappa {found.kappa:.3f}, epsilon {found.epsilon:g}; loss {self.report.loss:.4f}; "
            f"beta: {self.report.beta_effect}\n"
            f"{self.num_prompts} prompts, {self.num_images} images; {self.out}, {self.plot}"
        )


def calibrate_vlm(vlm: str | TokenVLM = "mini", **settings: Any) -> Calibrated:
    """Measure the VLM, encode the pictures, search; write the report and the plot beside it.

    Args:
        vlm: by name or itself.
        settings: the others of `CalibrationSettings`; `out` is needed, and `images` or `world`.

    Raises:
        ValueError: a setting does not fit, or a file that no calibration wrote would be lost.
        CalibrationError: the search does not reach the VLM's entropy.
    """
    config = CalibrationSettings.parse({"vlm": vlm if isinstance(vlm, str) else type(vlm).__name__, **settings})
    if config.out.suffix.lower() != ".json":
        raise ValueError(f"--out {config.out} must be a .json file; the plot goes beside it")
    plot = config.out.with_suffix(".png")
    require_free(config.out, plot, config.images)
    prompts = sampled_prompts(config)
    model = load_vlm(vlm, device=device_of(config.device)) if isinstance(vlm, str) else vlm
    model.check([prompt.text for prompt in prompts])
    tokenizer = model.tokenizer
    found = pictures(config.images, config.world, tokenizer.image_size, config.batch, "train", config.smallest)
    batches = tqdm(found.batches, desc="encoding", total=len(found.chunks), disable=None)
    features = torch.cat([tokenizer.features(images) for _, images in batches])
    sampled = measure_vlm(model, prompts, config)
    with tqdm(desc=f"search ({config.search})", disable=None) as bar:

        def count(_: Step) -> None:
            bar.update()

        weights = {"quantiles": Weights, "summaries": SummaryWeights}[config.objective]()
        search = SearchConfig(kappa_range=config.kappa_range, epsilons=config.epsilons, weights=weights)
        report = calibrate(features, tokenizer.codebook, sampled.targets(), config.search, search, on_step=count)
    columns = {
        "VLM": sampled,
        "encoder, raw": encoder_statistics(features, tokenizer.codebook),
        "encoder, calibrated": encoder_statistics(features, tokenizer.codebook, report.calibration),
    }
    report.save(config.out)
    draw_curves({name: column.mean_curve(TOP) for name, column in columns.items()}, plot)
    return Calibrated(report, columns, len(prompts), len(found.ids), config.out, plot)


def require_free(out: Path, plot: Path, images: Sequence[Path]) -> None:
    """Refuse to draw the plot among the pictures, where nothing can be written, or over a file that no calibration left."""
    require_writable(out.parent)
    for folder in images:
        if folder.is_dir() and folder.resolve() in out.resolve().parents:
            raise ValueError(
                f"--out {out} lies in {folder}, whose pictures its plot {plot.name} would join; choose another folder"
            )
    if out.exists():
        CalibrationReport.load(out)  # fails where the file is none of ours and would be lost
    elif plot.exists():
        raise ValueError(f"{plot} belongs to no calibration and would be lost; choose another --out")


def sampled_prompts(config: CalibrationSettings) -> list[Prompt]:
    """A random draw from the prompts file, or captions of the embedded world; each with the seed it is drawn with."""
    if config.prompts is None:
        scenes = World().prompts(config.num_prompts, config.seed, "train")
        prompts = [Prompt(f"{row}", scene.caption) for row, scene in enumerate(scenes)]
    else:
        prompts = read_prompts(config.prompts)
        prompts = random.Random(config.seed).sample(prompts, min(config.num_prompts, len(prompts)))
    return [
        replace(prompt, seed=item_seed(config.seed, f"{row}")) if prompt.seed is None else prompt
        for row, prompt in enumerate(prompts)
    ]


def measure_vlm(vlm: TokenVLM, prompts: Sequence[Prompt], config: CalibrationSettings) -> TokenStatistics:
    """Let the VLM sample, and keep statistics of its distribution at every token."""
    statistics = TokenStatistics(vlm.tokenizer.codebook)

    def observe(logits: Tensor, sampled: Tensor) -> Tensor:
        statistics.update_logits(logits, sampled)
        return logits.new_empty(len(logits), 0)

    for first in tqdm(range(0, len(prompts), config.batch), desc="drawing", disable=None):
        batch = prompts[first : first + config.batch]
        vlm.generate(
            [prompt.text for prompt in batch],
            seeds=[prompt.seed or 0 for prompt in batch],
            guidance=config.guidance,
            temperature=config.temperature,
            observe={"statistics": observe},
        )
    return statistics


def draw_curves(curves: Mapping[str, Float[Tensor, "k"]], out: Path) -> None:
    """Mean probability by rank, the paper's Fig. 6."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, curve in curves.items():
        axes.plot(range(1, len(curve) + 1), curve.tolist(), marker="o", markersize=3, label=name)
    axes.set(xlabel="rank of the code", ylabel="mean probability", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    with atomic(out) as temporary:
        figure.savefig(temporary, dpi=130)
