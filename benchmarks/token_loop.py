"""Speed of the token loop against transformers' own image generation, on one random Janus of mini size.

The same greedy tokens are asserted first, so both sides do the same work; timings alternate and the median is kept.

    python benchmarks/token_loop.py [--device cuda] [--compile] [--threads 1] [--repeats 5]   -> one JSON row on stdout
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers

from detokenizers.pretrained.janus import JanusSize, JanusVLM, build_janus
from detokenizers.pretrained.prompts import prompt_batch
from detokenizers.pretrained.words import word_tokenizer

MINI = JanusSize(
    hidden=256, layers=6, heads=8, vocabulary=1300, image_size=64, grid=8, codebook=1024, vq_channels=32,
    vq_multipliers=(1, 1, 2, 2), vq_blocks=1, vision_hidden=128, vision_layers=2, vision_heads=4,
)  # fmt: skip
WORDS = [f"word{number}" for number in range(1200)]
PROMPT = " ".join(WORDS[:10])
"""With BOS and BOI, 12 tokens."""


def seconds(call: Callable[[], Any], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare(vlm: JanusVLM, batch: int, repeats: int, device: str) -> dict[str, float]:
    """Median milliseconds of one batch of images, ours and transformers', same greedy tokens."""
    prompts = [PROMPT] * batch
    inputs = prompt_batch(vlm.form, prompts, branches=1)
    model: Any = vlm.model

    def ours() -> torch.Tensor:
        return vlm.generate(prompts, seeds=range(batch), greedy=True).ids

    def observed() -> torch.Tensor:
        return vlm.generate(prompts, seeds=range(batch), greedy=True, observe=lambda x, ids: x.amax(-1, True)).ids

    def theirs() -> torch.Tensor:
        return model.generate(
            inputs.ids.to(device), attention_mask=inputs.visible.long().to(device), generation_mode="image",
            do_sample=False, guidance_scale=5.0,
        )  # fmt: skip

    calls = {"ours": ours, "ours_observed": observed, "transformers": theirs}
    drawn = [call() for call in calls.values()]
    if not all(torch.equal(ids, drawn[0]) for ids in drawn):
        raise SystemExit("the two loops drew different tokens: nothing to compare")
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(seconds(call, device) * 1e3)
    row = {f"{name}_ms": round(statistics.median(values), 1) for name, values in times.items()}
    return row | {"speedup": round(row["transformers_ms"] / row["ours_ms"], 2)}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--device", default="cpu")
    options.add_argument("--compile", action="store_true")
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--repeats", type=int, default=5)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    words = word_tokenizer(WORDS)
    vlm = JanusVLM(build_janus(MINI, words), words, compile=chosen.compile).to(chosen.device)
    rows = {f"batch_{batch}": compare(vlm, batch, max(3, chosen.repeats), chosen.device) for batch in (1, 16)}
    device = torch.cuda.get_device_name() if chosen.device == "cuda" else platform.processor() or platform.machine()
    setting = {
        "benchmark": "token_loop", "device": device, "threads": chosen.threads, "dtype": "float32",
        "compile": chosen.compile, "image_tokens": MINI.grid**2, "codebook": MINI.codebook, "prompt_tokens": 12,
        "load": os.getloadavg()[0], "torch": torch.__version__, "transformers": transformers.__version__,
    }  # fmt: skip
    print(json.dumps(setting | rows))


if __name__ == "__main__":
    main()
