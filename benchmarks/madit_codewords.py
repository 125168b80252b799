"""How a MaDiT's codebook is used, and what its orders measure: rank correlations, over all patches of scenes that no
training took, of each order's score with texture (gradient energy), brightness and distance from grey.

    python benchmarks/madit_codewords.py --decoder out/madit/mini_flow [--world 1000] [--device cuda]

scenes -tokenizer-> ids -> usage, perplexity ; scores [b n], measures [b n] -Spearman-> one JSON row
"""

from __future__ import annotations

import argparse
import json

import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor

from detokenizers.checkpoint import resolve
from detokenizers.data.pictures import pictures
from detokenizers.madit.model import MaDiT
from detokenizers.madit.orders import CodewordKL, CodewordVariance, PosteriorKL
from detokenizers.madit.tokenizer import MaDiTTokenizer
from detokenizers.nn.codebook import perplexity, usage

SCORES = {"codeword_kl": CodewordKL(), "codeword_variance": CodewordVariance(), "posterior_kl": PosteriorKL()}
BATCH = 50


def measures(images: Float[Tensor, "b 3 h w"], side: int) -> dict[str, Float[Tensor, "b n"]]:
    """What a patch of an image looks like, for a raster of side x side patches."""
    grey = images.mean(1, keepdim=True)
    across, down = F.pad(grey.diff(dim=-1), (0, 1)), F.pad(grey.diff(dim=-2), (0, 0, 0, 1))
    maps = {
        "gradient_energy": across.square() + down.square(),
        "brightness": grey,
        "distance_from_grey": images.square().mean(1, keepdim=True),
    }
    return {name: F.adaptive_avg_pool2d(each, side).flatten(1) for name, each in maps.items()}


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description="Use of a codebook, and what orders measure.")
    parser.add_argument("--decoder", required=True, help="a trained MaDiT with codes of its own")
    parser.add_argument("--world", type=int, default=1000)
    parser.add_argument("--split", default="validation")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    model = MaDiT.load(resolve(args.decoder)).to(args.device)
    codes = model.codes
    if not isinstance(codes, MaDiTTokenizer):
        raise SystemExit(f"{args.decoder} borrows its codes; name a MaDiT with codes of its own")
    counts, scores, looks = torch.zeros(codes.config.codes), {}, {}
    for _, images in pictures((), args.world, codes.image_size, BATCH, args.split).batches:
        tokens = model.read(images, codes)
        counts += torch.bincount(tokens.ids.flatten(), minlength=len(counts)).cpu()
        for name, score in SCORES.items():
            scores.setdefault(name, []).append(score(codes, tokens, range(len(images))).cpu())
        for name, look in measures(images, codes.layout.patches.height).items():
            looks.setdefault(name, []).append(look)
    ranks = {
        f"{score} ~ {look}": round(float(spearmanr(torch.cat(a).flatten(), torch.cat(b).flatten()).statistic), 3)
        for score, a in scores.items()
        for look, b in looks.items()
    }
    row = {
        "what": "codewords",
        "decoder": args.decoder,
        "scenes": args.world,
        "split": args.split,
        "tokens": int(counts.sum()),
        "codes": len(counts),
        "bits_an_image": codes.grid.size * (len(counts) - 1).bit_length(),
        "usage": round(usage(counts), 4),
        "perplexity": round(perplexity(counts), 1),
    }
    print(json.dumps({**row, **ranks}))


if __name__ == "__main__":
    main()
