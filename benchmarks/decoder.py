"""What drawing with a FLUX.1-Fill-shaped decoder costs, with and without null-text tokens: time, memory, FLOP.

Random weights of the released shape. The paper leaves out text without saying how; 512 tokens of nothing nearly double
the sequence (576 image tokens at 384 px), so both are timed.

    python benchmarks/decoder.py [--shape tiny|12b] [--dtype bfloat16] [--steps 30] [--text 0 512] [--compile]

observed tokens -DCDD, 30 Euler steps-> latents -VAE-> images ; one JSON row per number of text tokens
"""

from __future__ import annotations

import argparse

import torch
from flop import flop
from row import WARM_UP, limits, matmul_rate, peak_gib, report, setting, taking_turns
from shapes import FLUX, PIXELS, STRIDE, decoder_at, unit_codes

from detokenizers.protocols import Grid, VisualTokens


def main() -> None:
    parser = argparse.ArgumentParser(description="Drawing with a random FLUX.1-Fill-shaped decoder.")
    parser.add_argument("--shape", default="tiny", choices=FLUX)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--text", type=int, nargs="+", default=[0, 512])
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--compile", action="store_true", help="compile FLUX's repeated blocks")
    args = parser.parse_args()
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    side = PIXELS[args.shape] // STRIDE[args.shape]
    codes = unit_codes(64, device)
    for text in args.text:
        dcdd = decoder_at(args.shape, device, dtype, text=text, codebook=codes)
        if args.compile:
            dcdd.decoder.net.transformer.compile_repeated_blocks(fullgraph=True)  # pyright: ignore
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        ids = torch.randint(64, (args.batch, side**2), device=device)
        tokens = VisualTokens(ids, Grid(side, side), {dcdd.observation: dcdd.proxy(codes[ids], ids)})
        latents = torch.randn(args.batch, dcdd.decoder.space.channels, *[side * 2] * 2, device=device)
        times = taking_turns(
            {
                "image": lambda dcdd=dcdd, tokens=tokens: dcdd(tokens, steps=args.steps),
                "vae": lambda dcdd=dcdd, latents=latents: dcdd.decoder.space.decode(latents),
            },
            device,
            args.repeats,
        )
        channels = dcdd.encoder.channels_per_token
        work = args.batch * args.steps * flop(FLUX[args.shape], side**2, text, channels).forward
        seconds = times["image"][0] / 1e3
        report(
            setting(
                "decoder", device, dtype, batch=args.batch, resolution=PIXELS[args.shape],
                compiled="blocks" if args.compile else "no", repeats=args.repeats, warm_up=WARM_UP,
                packages=("torch", "diffusers"),
            ),
            {
                "shape": args.shape,
                "steps": args.steps,
                "text_tokens": text,
                "image_s": round(seconds, 4),
                "vae_s": round(times["vae"][0] / 1e3, 4),
                "transformer_tflop": round(work / 1e12, 6),
                "tflop_per_s": round(work / seconds / 1e12, 4),
                **limits(device, dtype),
                "limit_s": round(work / matmul_rate(device, dtype), 4),
                "share_of_limit": round(work / seconds / matmul_rate(device, dtype), 3),
                "peak_gib": peak_gib(device),
            },
        )  # fmt: skip
        del dcdd


if __name__ == "__main__":
    main()
