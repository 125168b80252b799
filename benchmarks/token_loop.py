"""Speed of the token loop against transformers' own image generation, and against reading the weights once a step.

Both draw the same greedy tokens from the same weights, guidance on, and take turns; what is timed is the step from one
token to the next on the device's own clock, every one of an image's. The head computes in fp32 on both sides.

    python benchmarks/token_loop.py [--shape tiny|mini|1b|7b] [--batch 16] [--dtype bfloat16] [--loop eager recorded]

prompts -generate-> marks between tokens -> one JSON row of medians, speed-up and share of the memory-bandwidth limit.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from row import Marks, copy_rate, peak_gib, report, setting
from shapes import JANUS, PROMPT, vlm_at
from torch import Tensor, nn
from transformers.generation.logits_process import LogitsProcessor, LogitsProcessorList

from detokenizers.dcdd.calibration import Observer
from detokenizers.dcdd.lcdm import Expectation
from detokenizers.pretrained.vlm.janus import JanusVLM
from detokenizers.pretrained.vlm.prompt_formats import prompt_batch
from detokenizers.pretrained.vlm.step_graphs import fused, recorded

COMPILERS = {"eager": None, "recorded": recorded, "fused": fused}
GUIDANCE = 5.0


class Marking(LogitsProcessor):
    """Marks every step of transformers' loop and changes nothing."""

    def __init__(self, marks: Marks) -> None:
        self.marks = marks

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # pyright: ignore
        self.marks.mark()
        return scores


def step_bytes(vlm: JanusVLM, batch: int, prompt: int) -> int:
    """Fewest bytes a step reads on average: every weight of the loop once, half an image's keys and values."""
    inner, llama = vlm.model.model, vlm.loop.parts.blocks
    parts: list[nn.Module] = [inner.language_model.layers, inner.generation_head, inner.generation_aligner]
    weights = sum(w.numel() * w.element_size() for part in parts for w in part.parameters())
    columns = prompt + vlm.loop.num_tokens / 2
    memory = 2 * len(llama.layers) * 2 * batch * llama.kv_heads * llama.width * llama.weight.element_size()
    return int(weights + memory * columns)


def theirs(vlm: JanusVLM, prompts: Sequence[str], marks: Marks) -> Tensor:
    inputs = prompt_batch(vlm.form, prompts, branches=1)
    model: Any = vlm.model
    return model.generate(
        inputs.ids.to(vlm.device), attention_mask=inputs.visible.long().to(vlm.device), generation_mode="image",
        do_sample=False, guidance_scale=GUIDANCE, logits_processor=LogitsProcessorList([Marking(marks)]),
    )  # fmt: skip


def ours(
    vlm: JanusVLM, prompts: Sequence[str], marks: Marks, *, compiled: Callable | None, observed: bool = False
) -> Tensor:
    vlm.loop.compiled = compiled
    observe = {"lcdm": Observer(Expectation(), vlm.tokenizer.codebook)} if observed else None
    return vlm.generate(
        prompts, seeds=range(len(prompts)), greedy=True, guidance=GUIDANCE, observe=observe, progress=marks.mark
    ).ids


def cpu_time(milliseconds: Mapping[str, float], best: str) -> dict[str, float | None]:
    """Milliseconds of this thread an image, and their ratios, which hold on a machine with other work."""
    theirs, loop = milliseconds.get("transformers"), milliseconds[best]
    return {
        **{f"{name}_image_cpu_ms": round(time, 1) for name, time in milliseconds.items()},
        "speedup_cpu": None if theirs is None else round(theirs / loop, 2),
        "observing_cpu": round(milliseconds["observed"] / loop - 1, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="The token loop against transformers and the bandwidth limit.")
    parser.add_argument("--shape", default="mini", choices=JANUS)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--loop", nargs="+", default=["eager"], choices=COMPILERS, help="the last two are for CUDA")
    parser.add_argument("--images", type=int, default=3, help="timed batches a side; each step of each is timed")
    parser.add_argument("--no-transformers", action="store_true")
    args = parser.parse_args()
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    on_cpu = device.type == "cpu"
    vlm = vlm_at(args.shape, device, dtype)
    vlm.model.model.generation_head.register_forward_pre_hook(lambda _, given: (given[0].float(),))
    prompts = [PROMPT] * args.batch
    sides: dict[str, Callable[[Marks], Tensor]] = {}
    if not args.no_transformers:
        sides["transformers"] = partial(theirs, vlm, prompts)
    for name in args.loop:
        compiler = COMPILERS[name]
        compiled = compiler(vlm.loop.static_step) if compiler else None
        sides[name] = partial(ours, vlm, prompts, compiled=compiled)
    sides["observed"] = partial(ours, vlm, prompts, compiled=compiled, observed=True)

    drawn = {name: side(Marks(device)) for name, side in sides.items()}
    first = next(iter(drawn.values()))
    agreement = {name: float((ids == first).all(0).float().mean()) for name, ids in drawn.items()}
    if dtype == torch.float32 and device.type == "cpu" and min(agreement.values()) < 1:
        raise SystemExit(f"the loops drew different tokens, nothing to compare: {agreement}")
    steps: dict[str, list[float]] = {name: [] for name in sides}
    images: dict[str, list[float]] = {name: [] for name in sides}
    worked: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(args.images):
        for name, side in sides.items():
            marks = Marks(device)
            marks.mark()
            side(marks)
            marks.mark()
            times = marks.milliseconds()
            images[name].append(sum(times))
            worked[name].append(1e3 * (marks.worked[-1] - marks.worked[0]))
            steps[name] += times[1:-1]  # the first holds the prompt, the last what comes after the loop
    prompt = prompt_batch(vlm.form, prompts, branches=1).ids.shape[1]
    limit = 1e3 * step_bytes(vlm, args.batch, prompt) / copy_rate(device)
    median = {name: statistics.median(times) for name, times in steps.items()}
    best = min(args.loop, key=lambda name: median[name])
    report(
        setting(
            "token_loop", device, dtype, batch=args.batch, resolution=JANUS[args.shape].image_size,
            compiled=best, warm_up=1, repeats=len(steps[best]), packages=("torch", "transformers"),
        ),
        {
            "shape": args.shape,
            "guidance": GUIDANCE,
            "image_tokens": vlm.loop.num_tokens,
            "prompt_tokens": prompt,
            **{f"{name}_step_ms": round(time, 3) for name, time in median.items()},
            **{f"{name}_image_s": round(statistics.median(times) / 1e3, 3) for name, times in images.items()},
            **{f"{name}_same_tokens": round(share, 3) for name, share in agreement.items()},
            "copy_gb_per_s": round(copy_rate(device) / 1e9, 1),
            "limit_step_ms": round(limit, 3),
            "share_of_limit": round(limit / median[best], 3),
            "speedup": None if args.no_transformers else round(median["transformers"] / median[best], 2),
            "peak_gib": peak_gib(device),
            **(cpu_time({name: statistics.median(times) for name, times in worked.items()}, best) if on_cpu else {}),
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
