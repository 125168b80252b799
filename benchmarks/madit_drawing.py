"""What Algorithm 1 costs: MaDiT beside a plain implementation of it, with equal outputs, over rounds and batch.

The plain one is the algorithm as the paper writes it: one image at a time, every patch in the encoder with the hidden
ones masked, the two sides of guidance one after the other, the context of all patches in every round, and the flow of
one patch after another. Random weights of the embedded size, or those of a trained decoder.

    python benchmarks/madit_drawing.py [--decoder DIR] [--rounds 4 8 16] [--batch 8] [--repeats 3]

tokens -both-> latents ; their largest difference, milliseconds of this thread (which other work on the machine does not
lengthen; of the device on CUDA) and their ratio: one JSON row per number of rounds
"""

from __future__ import annotations

import argparse

import torch
from row import report, setting, taking_turns
from torch import Tensor

from detokenizers.checkpoint import resolve
from detokenizers.flow.noise import noise
from detokenizers.madit.heads import Flow
from detokenizers.madit.masked import MaskedTransformer
from detokenizers.madit.model import MaDiT
from detokenizers.madit.orders import round_sizes
from detokenizers.madit.recipes import MINI_MODEL
from detokenizers.protocols import VisualTokens


def context(trunk: MaskedTransformer, tokens: Tensor, patches: Tensor, known: Tensor, dropped: bool) -> Tensor:
    """The trunk with all patches in the encoder, hidden ones closed as keys."""
    x = trunk.dummy.expand_as(trunk.token_positions)[None] if dropped else trunk.token_in(tokens)
    x = x + trunk.token_positions + trunk.kinds[0]
    length = x.shape[1]
    x = torch.cat([x, trunk.patch_in(patches) + trunk.patch_positions + trunk.kinds[1]], 1)
    keys = torch.cat([torch.ones(1, length, dtype=torch.bool, device=x.device), known], 1)
    for block in trunk.encoder:
        x = block(x, keys)
    of_tokens, of_patches = trunk.to_decoder(trunk.encoder_norm(x)).split([length, len(trunk.cell)], 1)
    slots = (
        torch.where(known[..., None], of_patches, trunk.mask_token) + of_tokens[:, trunk.cell] + trunk.patch_positions
    )
    for block in trunk.decoder:
        slots = block(slots)
    return trunk.decoder_norm(slots)


@torch.no_grad()
def plain(model: MaDiT, tokens: VisualTokens, rounds: int) -> Tensor:
    """Algorithm 1, image by image and patch by patch."""
    sampling, codes, device = model.config.sampling, model.codes, tokens.ids.device
    assert isinstance(sampling.decoding, Flow)
    drawn, steps = [], sampling.decoding.steps
    for i in range(len(tokens.ids)):
        one = VisualTokens(tokens.ids[i : i + 1], tokens.grid)
        order = sampling.order(codes, one, [i])[0].tolist()
        eps = noise((len(order), codes.patch_dim), [i], device=device)[0]
        x = torch.zeros(1, len(order), codes.patch_dim, device=device)
        known, done = torch.zeros(1, len(order), dtype=torch.bool, device=device), 0
        for size in round_sizes(len(order), rounds):
            weight = sampling.guidance(done + size, len(order))
            sides = [context(model.trunk, codes.codebook[one.ids], x, known, dropped) for dropped in (False, True)]
            for patch in order[done : done + size]:
                z = sampling.decoding.temperature * eps[patch][None, None]
                velocities = [model.head.bound(side[:, [patch]]) for side in sides]
                for step in range(steps):
                    t = torch.full((1,), 1 - step / steps, device=device)
                    conditional, unconditional = (velocity(z, t) for velocity in velocities)
                    z = z - (unconditional + weight * (conditional - unconditional)) / steps
                x[:, patch] = z[0]
            known[:, order[done : done + size]] = True
            done += size
        drawn.append(x)
    return torch.cat(drawn)


def random_model(device: torch.device) -> MaDiT:
    """The embedded size, with what starts at zero moved, and a table to order by."""
    torch.manual_seed(0)
    model = MINI_MODEL.build().to(device).eval().requires_grad_(False)
    for parameter in model.head.net.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    model.codes.codewords.seen.fill_(True)
    model.codes.codewords.kl.copy_(torch.rand_like(model.codes.codewords.kl))
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description="MaDiT's Algorithm 1 beside a plain implementation.")
    parser.add_argument("--decoder", help="a trained MaDiT; random weights unless given")
    parser.add_argument("--rounds", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    device = torch.device(args.device)
    model = MaDiT.load(resolve(args.decoder)).to(device) if args.decoder else random_model(device)
    torch.manual_seed(1)
    ids = torch.randint(model.codes.config.codes, (args.batch, model.codes.grid.size), device=device)
    tokens = VisualTokens(ids, model.codes.grid)
    clock = 0 if device.type == "cuda" else 1  # by the device, or by this thread
    for rounds in args.rounds:
        difference = float((plain(model, tokens, rounds) - model.latents(tokens, steps=rounds)).abs().max())
        times = taking_turns(
            {
                "plain": lambda rounds=rounds: plain(model, tokens, rounds),
                "ours": lambda rounds=rounds: model.latents(tokens, steps=rounds),
            },
            device,
            args.repeats,
            warm_up=1,
        )
        report(
            setting(
                "madit_drawing",
                device,
                torch.float32,
                batch=args.batch,
                resolution=model.codes.image_size,
                repeats=args.repeats,
                warm_up=1,
            ),
            {"decoder": args.decoder, "rounds": rounds, "patches": model.codes.layout.patches.size},
            {f"{name}_ms": round(each[clock], 1) for name, each in times.items()},
            {"ratio": round(times["plain"][clock] / times["ours"][clock], 2), "largest_difference": difference},
        )


if __name__ == "__main__":
    main()
