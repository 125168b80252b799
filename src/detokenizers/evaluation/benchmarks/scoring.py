"""`detok evaluate --bench`: which benchmark, which folders, and the report.

request -the benchmark's `evaluated`-> numbers by decoder + provenance -> results.json, results.md, the table on stdout
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import torch

from ...checkpoint import write_text
from ...cli.verbs import Evaluate
from ...config import swallowed
from ...data.marks import RESULTS, TABLE, require_ours
from ...device import device_of
from ..bootstrap import LEVEL
from ..prompt_scores import RESAMPLES
from ..results import provenance
from ..sides import decoders_in
from .report import markdown

SHARED = {"drawn", "bench", "seed", "device", "out"}
KNOWN: dict[str, set[str]] = {
    "geneval": {"bench_file", "partial", "judge", "colour_judge"},
    "dpg": {"bench_file", "partial", "judge", "official_quirks", "resolution"},
    "mjhq": {"bench_file", "partial", "reference", "protocol", "net", "allow"},
    "world": {"judge", "net"},
}
"""What each benchmark can be told; a setting that it would ignore is refused."""


def run(request: Evaluate) -> None:
    """Judge, write results.json and results.md, print the table."""
    require_fitting(request)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    folders = folders_of(request)
    out = request.out or request.drawn[0]
    require_ours(out, RESULTS)
    evaluated = import_module(f".{request.bench}", __package__).evaluated
    numbers = evaluated(request, folders, out)
    settings = {"file": str(request.bench_file)} if request.bench_file else {}
    result = {
        "kind": "benchmark",
        "benchmark": request.bench,
        "partial": request.partial,
        "seed": request.seed,
        "intervals": {"level": LEVEL, "resamples": RESAMPLES, "over": "prompts"},
        **provenance(device_of(request.device), settings),
        **numbers,
    }
    write_text(out / RESULTS, json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(out / TABLE, markdown(result))
    print(markdown(result), end="")


def require_fitting(request: Evaluate) -> None:
    """Refuse settings that would be ignored; also called without a benchmark."""
    changed = {name for name in request.model_fields_set if getattr(request, name) != default(name)}
    every = set().union(*KNOWN.values())
    if request.bench is None:
        odd = changed & (every - {"reference", "protocol", "net", "allow"})
    else:
        odd = changed - SHARED - KNOWN[request.bench]
    for name in sorted(odd):
        where = " or ".join(f"--bench {bench}" for bench, known in KNOWN.items() if name in known)
        means = f"means something for {where} only" if where else "means nothing to benchmarks"
        raise ValueError(f"--{name.replace('_', '-')} {means}; leave it out")


def default(name: str) -> object:
    return Evaluate.model_fields[name].default


def folders_of(request: Evaluate) -> dict[str, Path]:
    """Folders in the official layout by decoder; one that `detok generate` left is one a decoder."""
    if not request.drawn:
        raise ValueError(
            f"name the folder of pictures that --bench {request.bench} scores{swallowed(request, 'allow')}"
        )
    found: dict[str, Path] = {}
    for folder in request.drawn:
        if not folder.is_dir():
            raise ValueError(f"there is no folder of pictures at {folder}")
        for path in decoders_in(folder) or [folder]:
            if not path.is_dir():
                raise ValueError(f"{path} is missing, though {folder}'s manifest names it")
            found[path.name if path.name not in found else str(path)] = path
    return found
