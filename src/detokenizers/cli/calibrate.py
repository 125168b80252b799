"""`detok calibrate`: how certain is the VLM of its tokens, and which numbers make the encoder as certain (DCDD B.2)?

prompts -VLM, observed-> targets ; images -encoder-> features ; both -search-> report.json, Table 1, curve.png
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ..checkpoint import atomic
from ..data.pictures import pictures
from ..data.prompts import Prompt, read_prompts
from ..data.world.world import World
from ..dcdd.calibrate import CalibrationReport, calibrate, encoder_statistics
from ..dcdd.search import SearchConfig, Step, SummaryWeights, Weights
from ..dcdd.token_statistics import TokenStatistics
from ..device import device_of
from ..drawing.sources import guidance_of
from ..pretrained.vlm.loading import load_vlm
from ..protocols import TokenVLM
from ..seeds import item_seed
from .verbs import Calibrate

TOP = 30


def run(request: Calibrate) -> None:
    """Measure, search, report."""
    if request.out.suffix.lower() != ".json":
        raise ValueError(f"--out {request.out} must be a .json file; the plot goes beside it")
    plot = request.out.with_suffix(".png")
    require_place(request.out, plot, request.images)
    prompts = prompts_of(request)
    vlm = load_vlm(request.vlm, device=device_of(request.device))
    vlm.check([prompt.text for prompt in prompts])
    tokenizer = vlm.tokenizer
    found = pictures(request.images, request.world, tokenizer.image_size, request.batch, "train", request.smallest)
    encoded = [
        tokenizer.features(images)
        for _, images in tqdm(found.batches, desc="encoding", total=len(found.chunks), disable=None)
    ]
    features = torch.cat(encoded)
    sampled = measure_vlm(vlm, prompts, request)
    with tqdm(desc=f"search ({request.search})", disable=None) as bar:

        def count(_: Step) -> None:
            bar.update()

        weights = {"quantiles": Weights, "summaries": SummaryWeights}[request.objective]()
        settings = SearchConfig(kappa_range=request.kappa_range, epsilons=request.epsilons, weights=weights)
        report = calibrate(features, tokenizer.codebook, sampled.targets(), request.search, settings, on_step=count)
    columns = {
        "VLM": sampled,
        "encoder, raw": encoder_statistics(features, tokenizer.codebook),
        "encoder, calibrated": encoder_statistics(features, tokenizer.codebook, report.calibration),
    }
    report.save(request.out)
    draw_curves({name: column.mean_curve(TOP) for name, column in columns.items()}, plot)
    print(table(columns))
    print(
        f"\nkappa {report.calibration.kappa:.3f}, epsilon {report.calibration.epsilon:g}; loss {report.loss:.4f}; "
        f"beta: {report.beta_effect}\n{len(prompts)} prompts, {len(found.ids)} images; {request.out}, {plot}"
    )


def require_place(out: Path, plot: Path, images: Sequence[Path]) -> None:
    """Refuse to draw the plot among the pictures, or over a file that no calibration left."""
    for folder in images:
        if folder.is_dir() and folder.resolve() in out.resolve().parents:
            raise ValueError(
                f"--out {out} lies in {folder}, whose pictures its plot {plot.name} would join; choose another folder"
            )
    if out.exists():
        CalibrationReport.load(out)  # fails where the file is none of ours and would be lost
    elif plot.exists():
        raise ValueError(f"{plot} belongs to no calibration and would be lost; choose another --out")


def prompts_of(request: Calibrate) -> list[Prompt]:
    """A random draw from the prompts file, or captions of the embedded world; each with the seed it is drawn with."""
    if request.prompts is None:
        scenes = World().prompts(request.num_prompts, request.seed, "train")
        prompts = [Prompt(f"{row}", scene.caption) for row, scene in enumerate(scenes)]
    else:
        prompts = read_prompts(request.prompts)
        prompts = random.Random(request.seed).sample(prompts, min(request.num_prompts, len(prompts)))
    return [
        replace(prompt, seed=item_seed(request.seed, f"{row}")) if prompt.seed is None else prompt
        for row, prompt in enumerate(prompts)
    ]


def measure_vlm(vlm: TokenVLM, prompts: Sequence[Prompt], request: Calibrate) -> TokenStatistics:
    """Let the VLM sample, and keep statistics of its distribution at every token."""
    statistics = TokenStatistics(vlm.tokenizer.codebook)

    def observe(logits: Tensor, drawn: Tensor) -> Tensor:
        statistics.update_logits(logits, drawn)
        return logits.new_empty(len(logits), 0)

    for first in tqdm(range(0, len(prompts), request.batch), desc="drawing", disable=None):
        batch = prompts[first : first + request.batch]
        vlm.generate(
            [prompt.text for prompt in batch],
            seeds=[prompt.seed or 0 for prompt in batch],
            guidance=guidance_of(request.guidance, vlm),
            temperature=request.temperature,
            observe={"statistics": observe},
        )
    return statistics


def table(columns: Mapping[str, TokenStatistics]) -> str:
    """The paper's Table 1 and, below it, the geometry gap, as Markdown."""
    rows = {name: column.table1() | column.geometry() for name, column in columns.items()}
    first = next(iter(rows.values()))
    lines = [f"| statistic | {' | '.join(rows)} |", f"|---|{'---:|' * len(rows)}"]
    for key in first:
        lines.append(f"| {key.replace('_', ' ')} | {' | '.join(f'{row[key]:.6g}' for row in rows.values())} |")
    return "\n".join(lines)


def draw_curves(curves: Mapping[str, Tensor], out: Path) -> None:
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
