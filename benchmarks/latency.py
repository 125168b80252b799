"""What does a better decoder cost, from prompt to picture? The VLM's own decoder against ours, from the same tokens, as
in Table 5 of the paper (11.86 s against 15.56 s an image, on a GPU it does not name).

    python benchmarks/latency.py [--vlm mini] [--decoder mini/dcdd] [--steps N] [--batch 1] [--device cuda]
    python benchmarks/latency.py --shape 7b --dtype bfloat16 --loop recorded       # random weights of that shape

prompts -generate-> tokens, observed and not; tokens -CodeDecoder | DCDD-> images; one JSON row of medians.
"""

from __future__ import annotations

import argparse

import torch
from row import copy_rate, matmul_rate, peak_gib, report, setting, taking_turns
from shapes import FLUX, decoder_at, vlm_at
from token_loop import COMPILERS, step_bytes

import detokenizers as dt
from detokenizers.pretrained.vlm.janus import JanusVLM

PROMPT = "two red apples on a wooden table"
RANDOM_PROMPT = "word0 word1 word2 word3 word4 word5 word6"
DECODERS = {"tiny": "tiny", "1b": "12b", "7b": "12b"}
"""The decoder's shape over a VLM's."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds from prompt to picture, by two decoders.")
    parser.add_argument("--vlm", default="mini")
    parser.add_argument("--decoder", default="mini/dcdd")
    parser.add_argument("--shape", choices=DECODERS, help="random weights of this shape, in place of the two above")
    parser.add_argument("--text", type=int, default=0, help="null-text tokens, with --shape")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="with --shape")
    parser.add_argument("--loop", default="eager", choices=COMPILERS, help="the last two are for CUDA")
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--steps", type=int, help="sampling steps; the decoder's own unless given")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    if args.repeats < 3:
        parser.error("a median needs at least 3 repeats")

    device, prompt = torch.device(args.device), args.prompt
    if args.shape:
        prompt, dtype = RANDOM_PROMPT, getattr(torch, args.dtype)
        vlm = vlm_at(args.shape, device, dtype)
        shape = DECODERS[args.shape]
        dcdd = decoder_at(shape, device, dtype, text=args.text, codebook=vlm.tokenizer.codebook)
        names = {"vlm": f"random {args.shape}", "decoder": f"random {shape}, {args.text} text tokens"}
        assert shape in FLUX
    else:
        vlm, dcdd = dt.load_vlm(args.vlm, device=device), dt.load(args.decoder, device=device)
        dtype = next(vlm.parameters()).dtype
        names = {"vlm": args.vlm, "decoder": args.decoder}
    assert isinstance(vlm, JanusVLM)
    if compiler := COMPILERS[args.loop]:
        vlm.loop.compiled = compiler(vlm.loop.static_step)
    prompts, seeds = [prompt] * args.batch, list(range(args.batch))
    tokens = vlm.generate(prompts, seeds=seeds, observe=dcdd.observers)
    plain = dt.CodeDecoder(vlm.tokenizer)
    times = taking_turns(
        {
            "tokens": lambda: vlm.generate(prompts, seeds=seeds),
            "tokens_observed": lambda: vlm.generate(prompts, seeds=seeds, observe=dcdd.observers),
            "decode_vq": lambda: plain(tokens),
            "decode_dcdd": lambda: dcdd(tokens, steps=args.steps, seeds=seeds),
        },
        device,
        args.repeats,
        warm_up=1,
    )
    s = {name: wall / 1e3 for name, (wall, _) in times.items()}
    report(
        setting(
            "latency", device, dtype, batch=args.batch, resolution=vlm.tokenizer.image_size, compiled=args.loop, warm_up=1,
            repeats=args.repeats, packages=("torch", "transformers", "diffusers"),
        ),
        {
            **names,
            "tokens": tokens.grid.size,
            "steps": args.steps or dcdd.steps,
            **{f"{name}_s": round(value, 4) for name, value in s.items()},
            "observe_overhead": round(s["tokens_observed"] / s["tokens"] - 1, 4),
            "end_to_end_vq_s": round(s["tokens"] + s["decode_vq"], 4),
            "end_to_end_dcdd_s": round(s["tokens_observed"] + s["decode_dcdd"], 4),
            "dcdd_over_vq": round((s["tokens_observed"] + s["decode_dcdd"]) / (s["tokens"] + s["decode_vq"]), 3),
            "copy_gb_per_s": round(copy_rate(device) / 1e9, 1),
            "matmul_tflop_per_s": round(matmul_rate(device, dtype) / 1e12, 3),
            "limit_tokens_s": round(tokens.grid.size * step_bytes(vlm, args.batch, 10) / copy_rate(device), 4),
            "paper_s": {"vq": 11.86, "dcdd": 15.56},
            "peak_gib": peak_gib(device),
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
