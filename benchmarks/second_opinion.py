"""Does another net agree? Fréchet distances on the mini VLM's own vision tower, which has learnt to caption and against
which no decoder was trained; FD-world looks through the net that also gives the autoencoders' perceptual loss.

    python benchmarks/second_opinion.py out/tables/table2/validation [--reference DIR]

pictures -Janus vision tower, aligned-> mean over patches [n d] -> one JSON row, the reference being `original`
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

import detokenizers as dt
from detokenizers.data.canonical import batches
from detokenizers.data.images import find
from detokenizers.evaluation.frechet import frechet
from detokenizers.evaluation.moments import Moments
from detokenizers.evaluation.sides import decoders_in
from detokenizers.pretrained.vlm.janus import JanusVLM


def main() -> None:
    parser = argparse.ArgumentParser(description="Fréchet distances on the VLM's vision tower.")
    parser.add_argument("folder", type=Path, help="what `detok reconstruct` or `detok generate` left behind")
    parser.add_argument("--reference", type=Path, help="real pictures; FOLDER/original unless given")
    parser.add_argument("--vlm", default="mini")
    args = parser.parse_args()
    vlm = dt.load_vlm(args.vlm)
    assert isinstance(vlm, JanusVLM)
    core, size = vlm.model.model, vlm.tokenizer.image_size

    @torch.no_grad()
    def seen(folder: Path) -> Moments:
        parts = [
            core.aligner(core.vision_model(x).last_hidden_state).mean(1) for _, x in batches(find(folder), size, 64)
        ]
        return Moments.of(torch.cat(parts))

    names = [path.name for path in decoders_in(args.folder)]
    real = seen(args.reference or args.folder / "original")
    rows = {name: round(float(frechet(seen(args.folder / name), real)), 4) for name in names}
    print(
        json.dumps({"what": "FD on the vision tower", "vlm": args.vlm, "n": int(real.count), "device": "cpu", **rows})
    )


if __name__ == "__main__":
    main()
