"""What VUGEN's parts cost: the text cache beside reading the prompt again at every step, and a U-ViT's rewrites for
sampling beside the net as it was trained. Both pairs compute the same, which their tests hold. With `--decoders`, the
folders of trained autoencoders, their images/s instead, all in one run and each in its own number of steps.

    python benchmarks/vugen.py [--uvit mini|S|B|M] [--pixels 64] [--steps 4] [--batch 8]
    python benchmarks/vugen.py --decoders out/vugen/latent out/vugen/decoder out/vugen/decoder-1

the embedded VLM, a random tower -euler, guided-> ms ; a random U-ViT, one step -> ms ; one JSON row each
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from row import limits, report, setting, taking_turns

from detokenizers.flow import FixedShift, TimeGrid, euler, guided
from detokenizers.nn.uvit import UViT, uvit_size
from detokenizers.nn.uvit_fast import for_sampling
from detokenizers.pretrained.vlm.load_features import load_feature_vlm
from detokenizers.vugen.autoencoder import Autoencoder
from detokenizers.vugen.recipes import MINI_NET
from detokenizers.vugen.tower import Tower

PROMPTS = ["a red apple", "two green apples"]


def main() -> None:
    parser = argparse.ArgumentParser(description="VUGEN's tower and pixel decoder with random weights.")
    parser.add_argument("--uvit", default="mini", choices=["mini", "S", "B", "M"])
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--grid", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--decoders", nargs="+", help="folders of autoencoders, the first of which the others are put beside"
    )
    args = parser.parse_args()
    with torch.no_grad():
        if args.decoders:
            decoders(args)
            return
        text_cache(args)
        one_step(args)


def text_cache(args: Any) -> None:
    """The whole of sampling, with the text read once and at every step."""
    device = torch.device(args.device)
    vlm = load_feature_vlm("mini", device=device)
    tower = Tower(vlm.language_model, 16, vlm.grid).to(device)
    torch.nn.init.normal_(tower.out.weight, std=0.1)
    prompts, nothing = [PROMPTS[i % 2] for i in range(args.batch)], [""] * args.batch
    start = torch.randn(args.batch, vlm.grid.size, 16, device=device)
    times = TimeGrid(shift=FixedShift())(args.steps, (vlm.grid.size, 16)).to(device)

    def cached() -> torch.Tensor:
        text, null = vlm.text_cache(prompts), vlm.text_cache([""]).expanded(args.batch)
        return euler(guided(tower.bind(text), tower.bind(null), 3.0), start, times)

    def again() -> torch.Tensor:
        def reading(texts: list[str]) -> Any:
            return lambda noisy, t: tower(noisy, t, vlm.text_cache(texts))

        return euler(guided(reading(prompts), reading(nothing), 3.0), start, times)

    apart = float((cached() - again()).abs().max())
    found = taking_turns({"cached": cached, "again": again}, device, args.repeats)
    timed = {f"{name}_cpu_ms": round(thread, 2) for name, (_, thread) in found.items()}
    row = setting("vugen text cache", device, torch.float32, batch=args.batch, resolution=None, repeats=args.repeats)
    report(row, timed, {"steps": args.steps, "ratio": ratio(found, "again", "cached"), "largest_difference": apart})


def one_step(args: Any) -> None:
    """One call of a U-ViT as trained, rewritten, and laid out channels-last."""
    device = torch.device(args.device)
    config = MINI_NET if args.uvit == "mini" else uvit_size(args.uvit, 64)
    net = UViT(config).to(device).eval()
    fast, last = for_sampling(net, t=1.0), for_sampling(net, t=1.0)
    last.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    noisy = torch.randn(args.batch, 3, args.pixels, args.pixels, device=device)
    condition = torch.randn(args.batch, config.condition, args.grid, args.grid, device=device)
    t, wide = torch.ones(args.batch, device=device), noisy.contiguous(memory_format=torch.channels_last)
    runs = {
        "trained": lambda: net(noisy, t, condition),
        "rewritten": lambda: fast(noisy, t, condition),
        "rewritten_channels_last": lambda: last(wide, t, condition),
    }
    found = taking_turns(runs, device, args.repeats)
    timed = {f"{name}_cpu_ms": round(thread, 2) for name, (_, thread) in found.items()}
    row = setting(
        "vugen one step", device, torch.float32, batch=args.batch, resolution=args.pixels, repeats=args.repeats
    )
    report(
        row, timed, {"uvit": args.uvit, "ratio": ratio(found, "trained", "rewritten")}, limits(device, torch.float32)
    )


def decoders(args: Any) -> None:
    """Images a second from random latents: a batch, in the decoder's own steps."""
    device = torch.device(args.device)
    loaded = {folder: Autoencoder.load(folder).to(device) for folder in args.decoders}
    generator = torch.Generator().manual_seed(0)

    def run(one: Autoencoder) -> Any:
        latents = torch.randn(args.batch, one.grid.size, one.channels, generator=generator).to(device)
        return lambda: one.decode(latents, seeds=range(args.batch))

    found = taking_turns({folder: run(one) for folder, one in loaded.items()}, device, args.repeats)
    first = next(iter(loaded))
    rows = {
        folder: {
            "parameters": sum(weight.numel() for weight in one.net.parameters()),
            "steps": one.config.decoder.steps,
            "images_per_s": round(1e3 * args.batch / found[folder][0], 2),
            "images_per_cpu_s": round(1e3 * args.batch / found[folder][1], 2),
            "times_faster": ratio(found, first, folder),
        }
        for folder, one in loaded.items()
    }
    size = next(iter(loaded.values())).size
    report(
        setting("vugen decoders", device, torch.float32, batch=args.batch, resolution=size, repeats=args.repeats),
        {"decoders": rows},
    )


def ratio(found: dict[str, tuple[float, float]], slow: str, fast: str) -> float:
    """How many times longer by this thread's clock."""
    return round(found[slow][1] / found[fast][1], 2)


if __name__ == "__main__":
    main()
