"""How much does observing a distribution cost? LCDM over a whole image against one softmax of the same logits, in time; and
drawing an image's tokens with `observe` against drawing them without, in memory. The limit is reading the logits once.

    python benchmarks/lcdm.py [--device cuda] [--tokens 576] [--codes 16384] [--repeats 30]

logits [1 n v] -observe_rows-> [1 n d+4]; logits [b v] -Observer-> [b d+4]; prints one JSON row of median milliseconds
and bytes an image. What is compared takes turns, so that other work on the machine slows all of it alike; on a CPU
`*_cpu_ms` are the milliseconds that this thread computed, without those in which it waited for its turn.
"""

from __future__ import annotations

import argparse
import weakref
from typing import Any

import torch
from row import copy_rate, report, setting, taking_turns
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from detokenizers.dcdd.calibration import Calibration, Observer, observe_rows
from detokenizers.dcdd.lcdm import Expectation, probabilities
from detokenizers.nn.sampling import draw
from detokenizers.protocols import Observe


class Alive(TorchDispatchMode):
    """Counts the bytes of all tensors made inside the block that are alive at once; `peak` is the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        before = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and (key := leaf.untyped_storage()._cdata) not in self.known | before:
                storage = leaf.untyped_storage()
                self.known.add(key)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._gone, key, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return out

    def _gone(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def peak(logits: Tensor, observe: Observe | None, steps: int) -> int:
    """Most bytes alive while tokens are drawn from the same logits [b v] again and again, as the token loop does."""
    u = torch.rand(len(logits), steps, generator=torch.Generator().manual_seed(0)).to(logits.device)
    with Alive() as alive:
        ids, observed = [], []
        for step in range(steps):
            ids.append(draw(logits, u[:, step]))
            if observe is not None:
                observed.append(observe(logits, ids[-1]))
        kept = [torch.stack(rows, 1) for rows in (ids, observed) if rows]
    del kept
    return alive.peak


def main() -> None:
    parser = argparse.ArgumentParser(description="LCDM against one softmax of the same logits.")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tokens", type=int, default=576)
    parser.add_argument("--codes", type=int, default=16384)
    parser.add_argument("--repeats", type=int, default=30)
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
    times = taking_turns(
        {
            "softmax": lambda: logits.softmax(-1),
            "offline": lambda: observe_rows(logits, probabilities, reading, codebook, ids),
            "offline_smoothed": lambda: observe_rows(logits, smoothing.on_vlm, reading, codebook, ids),
            "step_softmax": lambda: logits[:, 0].softmax(-1),
            "step_observe": lambda: plain(logits[:, 0], ids[:, 0]),
            "step_observe_smoothed": lambda: smoothed(logits[:, 0], ids[:, 0]),
            "step_observe_batch8": lambda: plain(logits[0, :8], ids[0, :8]),
        },
        device,
        args.repeats,
    )
    extra = {
        f"observe_extra_bytes_an_image_batch{b}": (
            peak(logits[0, :b], plain, args.tokens) - peak(logits[0, :b], None, args.tokens)
        )
        // b
        for b in (1, 8)
    }
    row: dict[str, object] = {
        "shape": list(logits.shape),
        **{f"{name}_ms": round(wall, 3) for name, (wall, _) in times.items()},
        "copy_gb_per_s": round(copy_rate(device) / 1e9, 1),
        "limit_offline_ms": round(1e3 * logits.nbytes / copy_rate(device), 4),
        "limit_step_ms": round(1e3 * logits[:, 0].nbytes / copy_rate(device), 6),
        "offline_over_softmax": round(times["offline"][0] / times["softmax"][0], 2),
        **extra,
    }
    if device.type == "cpu":
        row["softmax_cpu_ms"], row["offline_cpu_ms"] = (round(times[name][1], 3) for name in ("softmax", "offline"))
        row["offline_over_softmax_cpu"] = round(times["offline"][1] / times["softmax"][1], 2)
    report(setting("lcdm", device, logits.dtype, batch=1, resolution=None, repeats=args.repeats), row)


if __name__ == "__main__":
    main()
