"""What shows a person how a run is going: the log, the loss curve and a sheet of samples.

rows -Log.write-> log.jsonl -draw_curve-> loss.png ; images [b 3 h w] -save_preview-> preview.png
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import repeat
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ..checkpoint import atomic, write_text
from ..pixels import quantised

LOG, CURVE, PREVIEW = "log.jsonl", "loss.png", "preview.png"
HELD_OUT = "held_out"
"""The loss of items that no step takes, in the rows after which the state was kept."""


class Log:
    """log.jsonl of a run that goes on at step `first`; rows of steps that will be taken again are taken out."""

    def __init__(self, folder: Path, first: int) -> None:
        self.path = folder / LOG
        kept = [row for row in read_log(self.path) if row["step"] < first]
        self.before = kept[-1]["seconds"] if kept else 0.0
        self.started = time.monotonic()
        if self.path.exists():
            write_text(self.path, "".join(json.dumps(row) + "\n" for row in kept))

    def write(self, row: dict[str, Any]) -> None:
        seconds = self.before + time.monotonic() - self.started
        with self.path.open("a", encoding="utf-8") as log:
            # JSON has no infinity: a gradient that overflowed fp16 is null.
            finite = {name: value if math.isfinite(value) else None for name, value in row.items()}
            log.write(json.dumps({**finite, "seconds": seconds}) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a log, one per step; a line that was cut off in the middle is left out."""
    rows: dict[int, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []:
        try:
            row = json.loads(line)
            rows[row["step"]] = row
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    return [rows[step] for step in sorted(rows)]


def draw_curve(log: Path, out: Path) -> None:
    """Plot the logged loss, its running median and the held-out loss over steps; nothing before the first row."""
    rows = read_log(log)
    if not rows:
        return
    steps, losses = [row["step"] for row in rows], [row["loss"] for row in rows]
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, losses, color="#9ecae1", linewidth=0.8)
    width = max(1, len(losses) // 20)
    axes.plot(steps, [float(np.median(losses[max(0, i - width) : i + 1])) for i in range(len(losses))], color="#08519c")
    held = [(row["step"], row[HELD_OUT]) for row in rows if HELD_OUT in row]
    if held:
        axes.plot(*zip(*held), color="#d94801", marker=".", label="held out")
        axes.legend(frameon=False)
    axes.set(xlabel="step", ylabel="loss", yscale="log" if min(losses) > 0 else "linear")
    axes.grid(alpha=0.3)
    with atomic(out) as temporary:
        figure.savefig(temporary, dpi=110)


def save_preview(images: Float[Tensor, "b 3 h w"], out: Path, columns: int = 8, scale: int = 2) -> None:
    """Tile images in [-1, 1] into one PNG, `columns` to a row."""
    levels = quantised(images.float().cpu().nan_to_num())
    white = levels.new_full((-len(levels) % columns, *levels.shape[1:]), 255)
    sheet = repeat(torch.cat([levels, white]), "(r c) k h w -> (r h y) (c w x) k", c=columns, y=scale, x=scale)
    with atomic(out) as temporary:
        Image.fromarray(sheet.numpy()).save(temporary)
