"""How much does reading a belief cost? LCDM over a whole image against one softmax of the same logits.

    python benchmarks/lcdm.py [--device cuda] [--tokens 576] [--codes 16384]

logits [1 n v] -offline-> [1 n d+4]; logits [b v] -Observer-> [b d+4]; prints one JSON row of median milliseconds.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

from detokenizers.dcdd.belief import Calibration, Observer, offline
from detokenizers.dcdd.lcdm import Expectation, probabilities


def milliseconds(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median wall time of `run` after two warm-up calls, with the device's queue drained."""

    def once() -> float:
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - start) * 1e3

    for _ in range(2):
        once()
    return statistics.median(once() for _ in range(repeats))


def main() -> None:
    parser = argparse.ArgumentParser(description="LCDM against one softmax of the same logits.")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tokens", type=int, default=576)
    parser.add_argument("--codes", type=int, default=16384)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    if args.repeats < 5:
        parser.error("a median needs at least 5 repeats")

    device = torch.device(args.device)
    generator = torch.Generator().manual_seed(0)
    codebook = F.normalize(torch.randn(args.codes, 8, generator=generator), dim=-1).to(device)
    logits = (3 * torch.randn(1, args.tokens, args.codes, generator=generator)).to(device)
    ids = logits.argmax(-1)
    reading, smoothing = Expectation(), Calibration(epsilon=0.01)
    plain, smoothed = Observer(reading, codebook), Observer(reading, codebook, smoothing)

    def timed(run: Callable[[], object]) -> float:
        return round(milliseconds(run, device, args.repeats), 3)

    softmax = timed(lambda: logits.softmax(-1))
    whole = timed(lambda: offline(logits, probabilities, reading, codebook, ids))
    row = {
        "benchmark": "lcdm",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "dtype": str(logits.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "shape": list(logits.shape),
        "repeats": args.repeats,
        "softmax_ms": softmax,
        "offline_ms": whole,
        "offline_over_softmax": round(whole / softmax, 2),
        "offline_smoothed_ms": timed(lambda: offline(logits, smoothing.on_vlm, reading, codebook, ids)),
        "step_softmax_ms": timed(lambda: logits[:, 0].softmax(-1)),
        "step_observe_ms": timed(lambda: plain(logits[:, 0], ids[:, 0])),
        "step_observe_smoothed_ms": timed(lambda: smoothed(logits[:, 0], ids[:, 0])),
        "step_observe_batch8_ms": timed(lambda: plain(logits[0, :8], ids[0, :8])),
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
