"""One training step of a FLUX.1-Fill-shaped decoder in the attention scope: memory and model FLOP utilisation.

What learns is fp32 under AdamW, all else `--dtype`; activations are recomputed in the backward pass, as on a card of
80 GB they must be. The step is the objective's own, without the loop around it (benchmarks/training_step.py has that).

    python benchmarks/learning_step.py [--shape tiny|12b] [--dtype bfloat16] [--batch 8] [--text 0]

random latents, features -DCDDObjective-> loss -backward, clip, AdamW-> one JSON row of the median step
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from flop import flop
from row import limits, matmul_rate, peak_gib, report, setting, taking_turns
from shapes import FLUX, PIXELS, STRIDE, decoder_at, unit_codes

from detokenizers.dcdd.objectives import DCDDObjective
from detokenizers.seeds import item_seeds
from detokenizers.training.draws import SEEDS
from detokenizers.training.loop import recompute_activations
from detokenizers.training.optimizers import AdamW
from detokenizers.training.train_settings import TrainConfig


def main() -> None:
    parser = argparse.ArgumentParser(description="A training step of a random FLUX.1-Fill-shaped decoder.")
    parser.add_argument("--shape", default="tiny", choices=FLUX)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="of the frozen weights")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--text", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=30)
    args = parser.parse_args()
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    side = PIXELS[args.shape] // STRIDE[args.shape]
    num_codes = {"tiny": 64, "12b": 16384}[args.shape]
    dcdd = decoder_at(
        args.shape, device, dtype, text=args.text, codebook=unit_codes(num_codes, device), learns=True
    ).train()
    objective = DCDDObjective(dcdd)
    recompute_activations(objective)
    learns = [weight for weight in objective.parameters() if weight.requires_grad]
    optimizer = AdamW().build(objective, lambda name: 1.0, TrainConfig(lr=1e-5))[0]
    batch = {
        "latents": torch.randn(args.batch, dcdd.decoder.space.channels, 2 * side, 2 * side, device=device),
        "features": F.normalize(torch.randn(args.batch, side**2, 8, device=device), dim=-1),
        SEEDS: item_seeds(0, 0, args.batch),
    }

    def step() -> None:
        objective(batch)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(learns, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    seconds = taking_turns({"step": step}, device, args.repeats)["step"][0] / 1e3
    counted = flop(FLUX[args.shape], side**2, args.text, dcdd.encoder.channels_per_token)
    rate = args.batch * counted.learning / seconds
    best = matmul_rate(device, dtype)
    report(
        setting(
            "learning_step", device, dtype, batch=args.batch, resolution=PIXELS[args.shape], repeats=args.repeats,
            packages=("torch", "diffusers"),
        ),
        {
            "shape": args.shape,
            "scope": "attention",
            "checkpointing": True,
            "text_tokens": args.text,
            "learning_parameters": sum(weight.numel() for weight in learns),
            "step_s": round(seconds, 4),
            "images_per_s": round(args.batch / seconds, 3),
            "model_tflop": round(args.batch * counted.learning / 1e12, 6),
            "tflop_per_s": round(rate / 1e12, 4),
            **limits(device, dtype),
            "limit_s": round(args.batch * counted.learning / best, 4),
            "model_flop_utilisation": round(rate / best, 3),
            "peak_gib": peak_gib(device),
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
