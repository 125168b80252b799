"""E1 of MaDiT with distributions: what does reading a language model's distributions add when some tokens are wrong?

Scenes' true tokens; the language model's guided distributions about them, given caption and true tokens before. In a share
of the cells the token is a sample of its distribution, elsewhere the true one, decided. All arms draw from the same tokens
with the same noise: `hard` (more steps on hard tokens, the control of training), `both` (token and distribution), and the
controls `permuted` (distributions of the other sampled cells), `other` (of another image) and `decided` (none: hard
tokens read by the weights of `both`). The oracle draws the true tokens.

    python benchmarks/madit_noise.py --vlm out/madit/mini_language --hard out/madit/mini_more \
        --both out/madit/mini_distributions [--world 300] [--shares 0 0.1 0.3 1] [--device cuda]

scenes -teacher forcing-> tokens, distributions -each arm-> latents, pixels -> error an image and arm, paired intervals;
by quartile of the cells' entropy: if it is the distributions that help, the gain grows with it. Markdown on stdout.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from detokenizers.checkpoint import resolve
from detokenizers.data.pictures import pictures
from detokenizers.evaluation.bootstrap import interval
from detokenizers.evaluation.pairwise import psnr
from detokenizers.madit.distributions import Summarised
from detokenizers.madit.loading import load_language
from detokenizers.madit.model import MaDiT
from detokenizers.nn.sampling import draw, uniforms
from detokenizers.protocols import VisualTokens
from detokenizers.seeds import item_seed

BATCH = 25


@dataclass(frozen=True)
class Noisy:
    """Tokens of scenes, some of them samples, with the summary of the distributions that these were drawn from."""

    images: Float[Tensor, "b 3 h w"]
    true: Int[Tensor, "b l"]
    ids: Int[Tensor, "b l"]
    sampled: Bool[Tensor, "b l"]
    summary: Float[Tensor, "b l o"]
    entropy: Float[Tensor, "b l"]
    seeds: list[int]


def noisy(args: argparse.Namespace, share: float) -> Iterator[Noisy]:
    """Batches of scenes with a share of their tokens drawn again."""
    language = load_language(resolve(args.vlm), device=args.device)
    both = MaDiT.load(resolve(args.both)).to(args.device)
    reads = both.config.input
    assert isinstance(reads, Summarised)
    summarise, codes = reads.summary(both.codes), language.tokenizer
    found = pictures((), args.world, codes.image_size, BATCH)
    for names, images in found.batches:
        true, seeds = codes.tokens(codes.features(images)), [item_seed(args.seed, name) for name in names]
        logits = language.teacher_forced(
            [found.captions[name] for name in names], true, observe={"logits": lambda rows, _: rows}
        ).observed["logits"]
        u = uniforms(seeds, 2 * true.shape[1]).to(true.device)
        chosen, sampled = u[:, : true.shape[1]], u[:, true.shape[1] :] < share
        again = draw(logits.flatten(0, 1), chosen.flatten()).view_as(true)
        ids = torch.where(sampled, again, true)
        kept = torch.where(sampled[..., None], summarise(logits, ids), reads.decided(both.codes, ids))
        yield Noisy(images, true, ids, sampled, kept, torch.special.entr(logits.softmax(-1)).sum(-1), seeds)


def shuffled(summary: Float[Tensor, "b l o"], sampled: Bool[Tensor, "b l"]) -> Float[Tensor, "b l o"]:
    """Every sampled cell with the summary of the next sampled one of the batch."""
    mixed, rows = summary.clone(), summary[sampled]
    mixed[sampled] = rows.roll(1, 0)
    return mixed


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description="Distributions under a language model's mistakes.")
    for name in ("vlm", "hard", "both"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--world", type=int, default=300)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.1, 0.3, 1.0])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    hard, both = (MaDiT.load(resolve(folder)).to(args.device) for folder in (args.hard, args.both))
    (name,) = both.needs
    print(f"# {args.world} validation scenes, seed {args.seed}; differences are `arm - hard`, paired, 95 % intervals\n")
    print("| sampled | arm | PSNR (dB) | difference | latent error by quartile of entropy, difference |")
    print("|---|---|---|---|---|")
    for share in args.shares:
        quality: dict[str, list[Tensor]] = {}
        errors: dict[str, list[Tensor]] = {}
        doubt: list[Tensor] = []
        for some in noisy(args, share):

            def drawn(model: MaDiT, ids: Tensor, summary: Tensor | None, some: Noisy = some) -> Tensor:
                kept = {} if summary is None else {name: summary}
                return model.latents(VisualTokens(ids, model.codes.grid, kept), steps=args.steps, seeds=some.seeds)

            truth = both.codes.read(some.images).patches
            decided = both.config.input.decided(both.codes, some.ids)
            arms = {
                "hard": drawn(hard, some.ids, None),
                "both": drawn(both, some.ids, some.summary),
                "permuted": drawn(both, some.ids, shuffled(some.summary, some.sampled)),
                "other": drawn(both, some.ids, some.summary.roll(1, 0)),
                "decided": drawn(both, some.ids, decided),
                "oracle": drawn(hard, some.true, None),
            }
            doubt.append(some.entropy.cpu()[:, both.codes.layout.cell])
            for arm, latents in arms.items():
                quality.setdefault(arm, []).append(psnr(both.codes.draw(latents), some.images))
                errors.setdefault(arm, []).append((latents - truth).square().mean(-1).cpu())
        entropy = torch.cat(doubt)
        quartile = torch.bucketize(entropy, entropy.flatten().quantile(torch.tensor([0.25, 0.5, 0.75])))
        reference = {arm: torch.cat(parts) for arm, parts in quality.items()}
        squares = {arm: torch.cat(parts) for arm, parts in errors.items()}
        for arm, values in reference.items():
            gain = "" if arm == "hard" else with_interval(values - reference["hard"], args.seed)
            apart = "" if arm == "hard" else by_quartile(squares[arm] - squares["hard"], quartile, args.seed)
            print(f"| {share:g} | {arm} | {float(values.mean()):.2f} | {gain} | {apart} |", flush=True)


def with_interval(differences: Float[Tensor, "n"], seed: int) -> str:
    low, high = interval(differences, seed=seed)
    return f"{float(differences.mean()):+.3f} [{low:+.3f}, {high:+.3f}]"


def by_quartile(differences: Float[Tensor, "n l"], quartile: Int[Tensor, "n l"], seed: int) -> str:
    """Means over each quartile's cells, with intervals over images that have such cells."""
    parts = []
    for number in range(4):
        inside = (quartile == number).float()
        has = inside.sum(1) > 0
        parts.append(with_interval(((differences * inside).sum(1) / inside.sum(1).clamp_min(1))[has], seed))
    return "; ".join(parts)


if __name__ == "__main__":
    main()
