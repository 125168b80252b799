"""How much sooner are a thousand prompts drawn by two processes of one thread than by one of them?

    python benchmarks/many_processes.py [--prompts 1000] [--decoder mini/dcdd] [--processes 1 2] [--repeats 1]

Each number of processes draws the same captions into a folder of its own, in turns, as `torchrun` would start it; at the
end all folders must hold the same bytes. The time is that of the whole command, starting Python included. Give the
machine as many idle cores as there are processes.

captions -detok generate, by each number of processes in turn-> seconds -> one JSON row
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from row import report, setting


def seconds(number: int, command: list[str]) -> float:
    """The wall time of a command run as so many processes."""
    started = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(number)}
    running = [
        subprocess.Popen(
            command, env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stdout=subprocess.DEVNULL
        )
        for rank in range(number)
    ]
    if any([process.wait() for process in running]):
        raise SystemExit(f"{' '.join(command)} failed with {number} processes")
    return time.perf_counter() - started


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def main() -> None:
    parser = argparse.ArgumentParser(description="The time of a drawing by the number of processes that share it.")
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--decoder", default="mini/dcdd")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=1)
    args = parser.parse_args()
    taken: dict[int, list[float]] = {number: [] for number in args.processes}
    with tempfile.TemporaryDirectory() as name:
        for turn in range(args.repeats):
            for number, times in taken.items():
                command = [sys.executable, "-m", "detokenizers", "generate", "--world", str(args.prompts)]
                command += ["--decoder", args.decoder, "--device", "cpu", "--out", f"{name}/{turn}-{number}"]
                times.append(seconds(number, command))
        one, *others = (contents(path) for path in sorted(Path(name).iterdir()))
        if any(other != one for other in others):
            raise SystemExit("the numbers of processes do not leave the same bytes")
    torch.set_num_threads(1)
    medians = {number: statistics.median(times) for number, times in taken.items()}
    first = medians[args.processes[0]]
    report(
        setting(
            "many_processes", torch.device("cpu"), torch.float32, batch=8, resolution=None, warm_up=0,
            repeats=args.repeats,
        ),
        {
            "prompts": args.prompts,
            "decoder": args.decoder,
            "seconds": {str(number): round(median, 1) for number, median in medians.items()},
            "of_the_first": {str(number): round(median / first, 3) for number, median in medians.items()},
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
