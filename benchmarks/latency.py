"""What does a better decoder cost, from prompt to picture? The VLM's own decoder against ours, from the same tokens.

    python benchmarks/latency.py [--vlm mini] [--decoder mini/dcdd] [--steps 30] [--batch 1] [--device cuda]

prompts -generate-> tokens, with and without beliefs; tokens -CodeDecoder | DCDD-> images; one JSON row of medians.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

import torch

import detokenizers as dt

PROMPT = "two red apples on a wooden table"


def seconds(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median wall time of `run` after one warm-up call, with the device's queue drained."""

    def once() -> float:
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    once()
    return statistics.median(once() for _ in range(repeats))


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds from prompt to picture, by two decoders.")
    parser.add_argument("--vlm", default="mini")
    parser.add_argument("--decoder", default="mini/dcdd")
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    if args.repeats < 3:
        parser.error("a median needs at least 3 repeats")

    device = torch.device(args.device)
    vlm, dcdd = dt.load_vlm(args.vlm, device=device), dt.load(args.decoder, device=device)
    prompts, seeds = [args.prompt] * args.batch, list(range(args.batch))
    tokens = vlm.generate(prompts, seeds=seeds, observe=dcdd.observe)
    plain = dt.CodeDecoder(vlm.tokenizer)

    def timed(run: Callable[[], object]) -> float:
        return round(seconds(run, device, args.repeats), 4)

    draw = timed(lambda: vlm.generate(prompts, seeds=seeds))
    draw_observed = timed(lambda: vlm.generate(prompts, seeds=seeds, observe=dcdd.observe))
    decode_vq = timed(lambda: plain(tokens))
    decode = timed(lambda: dcdd(tokens, steps=args.steps, seeds=seeds))
    row = {
        "benchmark": "latency",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "dtype": str(next(vlm.parameters()).dtype).removeprefix("torch."),
        "versions": {name: version(name) for name in ("torch", "transformers", "diffusers")},
        "vlm": args.vlm,
        "decoder": args.decoder,
        "batch": args.batch,
        "tokens": tokens.grid.size,
        "steps": args.steps,
        "repeats": args.repeats,
        "tokens_s": draw,
        "tokens_observed_s": draw_observed,
        "observe_overhead": round(draw_observed / draw - 1, 4),
        "decode_vq_s": decode_vq,
        "decode_dcdd_s": decode,
        "end_to_end_vq_s": round(draw + decode_vq, 4),
        "end_to_end_dcdd_s": round(draw_observed + decode, 4),
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
