"""`detok reconstruct`: pictures to tokens and back. The work is `drawing.reconstruct`'s."""

from __future__ import annotations

from .. import drawing
from ..drawing.drawing_settings import ReconstructConfig
from .command_line import greedy_options


class Reconstruct(ReconstructConfig):
    """Take images through the VLM's tokenizer and back, and measure how near each decoder comes (PSNR, SSIM).

    Writes OUT/DECODER/ITEM.png, results.json, results.md and the contact sheet sheet.png.

    detok reconstruct photos/ --decoder vq mini/dcdd --out out/
    """


def run(request: Reconstruct) -> None:
    """Draw what is missing, measure all, and print the scores."""
    from ..device import is_first

    if not request.images and not request.world:
        raise ValueError(
            f"name pictures or folders of them, or ask for --world N scenes{greedy_options(request, 'decoder')}"
        )
    drawn = drawing.reconstruct(**dict(request))
    if is_first():
        count = f"{len(drawn.rows)} picture{'s' * (len(drawn.rows) != 1)}"
        print(f"{drawn.table()}\n\n{count} in {drawn.folder}; look at {drawn.sheet}")
