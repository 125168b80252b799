"""Does evaluating cost more than reading? Our decode, resize and hash against PIL alone; and memory at two N.

    python benchmarks/evaluation.py [--pictures 200] [--source 512] [--size 256] [--small 512] [--large 2048]

Both read the same files in turn, one thread each. Memory is the peak of a fresh process that only keeps statistics.
files -PIL | ours-> pictures a second ; Pass at N and 4 N -> MiB; prints one JSON row.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from detokenizers.data.canonical import RULE, Prepared
from detokenizers.data.world.world import World, WorldConfig
from detokenizers.evaluation import metrics
from detokenizers.evaluation.networks import Networks
from detokenizers.evaluation.one_pass import Pass, Share, measure, picture_read
from detokenizers.evaluation.sides import Folder, rows_of
from detokenizers.evaluation.world_judge import load_world_net

PIXELS = 64


def by_pil(path: Path, size: int) -> np.ndarray:
    """What anybody would write for square pictures: open, RGB, bicubic."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC))


def seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def throughput(folder: Path, size: int, repeats: int) -> dict[str, float]:
    """Pictures a second of both, read file by file in turn; medians over repeats of the share of PIL's speed."""
    files = next(iter(rows_of([folder]).values()))
    side = Folder(files, Prepared(RULE, size))
    for file in files[:8]:
        assert np.array_equal(by_pil(file.path, size), side.read(file.id))
    totals = []
    for _ in range(repeats):
        pil = ours = 0.0
        for file in files:
            pil += seconds(lambda file=file: by_pil(file.path, size))
            ours += seconds(lambda file=file: picture_read(side, file.id))
        totals.append((len(files) / pil, len(files) / ours, pil / ours))
    names = ("pil_per_s", "ours_per_s", "share_of_pil")
    return {name: round(statistics.median(column), 3) for name, column in zip(names, zip(*totals))}


class Noise:
    """Pictures made from their ids, so that memory is the evaluation's and not the disk cache's."""

    def read(self, id: str) -> np.ndarray:
        return np.random.default_rng(int(id)).integers(0, 256, (PIXELS, PIXELS, 3), np.uint8)

    def stamp(self, id: str) -> str:
        return id


def peak(n: int, keep_rows: bool) -> float:
    """Peak MiB of this process after evaluating `n` pictures in shards."""
    torch.set_num_threads(1)
    networks = Networks(world=lambda: load_world_net("mini/world_net"))
    chosen = metrics.chosen(["fd-world"], extractor="world")
    plan = Pass([f"{i:06d}" for i in range(n)], {"drawn": Noise()}, networks, chosen.extractors, keep_rows=keep_rows)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(plan, Path(folder), "drawn", Share())
    assert found is not None
    assert found.side("drawn", "world").moments.count == n
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def peak_elsewhere(n: int, keep_rows: bool) -> float:
    """The same in a fresh process."""
    command = [sys.executable, __file__, "--peak", str(n), *(["--rows"] if keep_rows else [])]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description="Evaluation against PIL alone, and its memory.")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--source", type=int, default=512)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--small", type=int, default=512)
    parser.add_argument("--large", type=int, default=2048)
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rows", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print(peak(args.peak, args.rows))
        return
    world = World(WorldConfig(resolution=args.source))
    row: dict[str, object] = {
        "benchmark": "evaluation",
        "device": platform.processor() or "cpu",
        "threads": 1,
        "dtype": "uint8 pictures, float32 network, float64 statistics",
        "torch": torch.__version__,
        "pillow": Image.__version__,
        "pictures": args.pictures,
        "source_px": args.source,
        "size_px": args.size,
    }
    for suffix in ("png", "jpg"):
        with tempfile.TemporaryDirectory() as name:
            for seed in range(args.pictures):
                Image.fromarray(world.scene(seed, "validation").image).save(Path(name) / f"{seed:05d}.{suffix}")
            row[suffix] = throughput(Path(name), args.size, args.repeats)
    for kind, rows in (("statistics", False), ("features", True)):
        small, large = (peak_elsewhere(n, rows) for n in (args.small, args.large))
        row[f"peak_mib_{kind}"] = {str(args.small): round(small, 1), str(args.large): round(large, 1)}
    print(json.dumps(row))


if __name__ == "__main__":
    main()
