"""What a person looks at while a run is going: the loss curve and a sheet of samples.

log.jsonl -> loss.png ; images [b 3 h w] -> preview.png
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ..checkpoint import atomic


def draw_curve(log: Path, out: Path) -> None:
    """Plot the logged loss over steps, with a running median; does nothing before the first logged row."""
    if not log.exists():
        return
    rows = {row["step"]: row for row in map(json.loads, log.read_text(encoding="utf-8").splitlines())}
    steps, losses = list(rows), [row["loss"] for row in rows.values()]
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, losses, color="#9ecae1", linewidth=0.8)
    width = max(1, len(losses) // 20)
    axes.plot(steps, [float(np.median(losses[max(0, i - width) : i + 1])) for i in range(len(losses))], color="#08519c")
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.grid(alpha=0.3)
    with atomic(out) as temporary:
        figure.savefig(temporary, dpi=110)


def save_preview(images: Float[Tensor, "b 3 h w"], out: Path, columns: int = 8, scale: int = 2) -> None:
    """Tile images in [-1, 1] into one PNG, `columns` to a row."""
    tiles = ((images.float().cpu().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    tiles = tiles.repeat(scale, axis=1).repeat(scale, axis=2)
    count, height, width, _ = tiles.shape
    sheet = np.full((-(-count // columns) * height, columns * width, 3), 255, np.uint8)
    for index, tile in enumerate(tiles):
        y, x = divmod(index, columns)
        sheet[y * height : (y + 1) * height, x * width : (x + 1) * width] = tile
    with atomic(out) as temporary:
        Image.fromarray(sheet).save(temporary)
