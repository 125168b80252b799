"""A strip that shows the rounds of Algorithm 1: which patches are drawn when, from low to high frequency if the order is so.

    python scripts/draw_rounds.py mini/madit --world 4 --rounds 6 --out out/madit_rounds.png

scenes -tokens-> patches after every round -VAE-> pictures, what is not drawn yet in grey; the picture itself on the left
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from detokenizers.checkpoint import resolve
from detokenizers.data.images import save_png
from detokenizers.data.pictures import pictures
from detokenizers.evaluation.sheets import contact_sheet
from detokenizers.madit.model import MaDiT
from detokenizers.papers import load_tokenizer
from detokenizers.protocols import VisualTokens

GREY = 0.6
"""What is not drawn yet, in [-1, 1]: lighter than any mean picture."""


@torch.no_grad()
def strip(model: MaDiT, tokens: VisualTokens, rounds: int, seeds: list[int]) -> list[Float[Tensor, "b 3 h w"]]:
    """The picture after each round, grey where nothing has been drawn."""
    shown, side = [], model.codes.layout.patches
    for patches in model.rounds(tokens, steps=rounds, seeds=seeds):
        drawn = (patches != 0).any(-1).float().view(-1, 1, *side)
        images = model.codes.draw(patches)
        shown.append(torch.where(F.interpolate(drawn, images.shape[-2:]) > 0, images, GREY))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("decoder", help="a MaDiT: its folder, or mini/PART")
    parser.add_argument("--vlm", help="whose tokens it decodes, where its codes are not its own")
    parser.add_argument("--world", type=int, default=4, help="validation scenes, one a row")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    model = MaDiT.load(resolve(given.decoder))
    tokenizer = load_tokenizer(given.vlm or given.decoder)
    found = pictures((), given.world, model.codes.image_size, given.world)
    (batch,) = found.batches
    captions = [found.captions[id] for id in batch.ids]
    tokens = replace(model.read(batch.images, tokenizer), captions=captions)
    shown = strip(model, tokens, given.rounds, list(range(given.world)))
    columns = {f"round {number}": images for number, images in enumerate(shown, 1)}
    order = model.config.sampling.order.score.kind.replace("_", " ")
    note = f"{given.decoder}: {given.rounds} rounds, in the order of {order}"
    save_png(given.out, contact_sheet(captions, {"original": batch.images, **columns}, note=note))


if __name__ == "__main__":
    main()
