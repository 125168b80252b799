"""The score of a benchmark: its settings, its folders, and the report.

BenchmarkConfig -the benchmark's own module-> numbers by decoder, + provenance -> Report
"""

from __future__ import annotations

import torch

from ...config import Config
from ...data.marks import RESULTS, require_ours
from ...device import device_of
from ..bootstrap import LEVEL
from ..evaluation_settings import BenchmarkConfig, DrawnConfig
from ..prompt_scores import RESAMPLES
from ..reporting import Report
from ..results import provenance
from ..sides import folders_of
from . import dpg, geneval, geneval_world, mjhq

MEASURES = {
    "geneval": geneval.evaluated,
    "dpg": dpg.evaluated,
    "mjhq": mjhq.evaluated,
    "world": geneval_world.evaluated,
}
SHARED = {"drawn", "bench", "seed", "device", "out"}
TAKES: dict[str, set[str]] = {
    "geneval": {"bench_file", "partial", "judge", "colour_judge"},
    "dpg": {"bench_file", "partial", "judge", "official_quirks", "resolution"},
    "mjhq": {"bench_file", "partial", "reference", "protocol", "net", "allow"},
    "world": {"judge", "net"},
}
"""The settings of each benchmark; one that it would ignore is refused."""


def scored(config: BenchmarkConfig) -> Report:
    """Judge, and put the numbers together."""
    if config.bench is None:
        raise ValueError(f"name the benchmark with --bench: {', '.join(MEASURES)}")
    require_fitting(config, config.bench)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if not config.drawn:
        raise ValueError(f"name the folder of pictures that --bench {config.bench} scores")
    folders = folders_of(config.drawn)
    out = config.out or config.drawn[0]
    require_ours(out, RESULTS)
    settings = {"file": str(config.bench_file)} if config.bench_file else {}
    about = {
        "kind": "benchmark",
        "benchmark": config.bench,
        "partial": config.partial,
        "seed": config.seed,
        "intervals": {"level": LEVEL, "resamples": RESAMPLES, "over": "prompts"},
        **provenance(device_of(config.device), settings),
    }
    return Report(about | MEASURES[config.bench](config, folders, out), out)


def require_fitting(config: Config, bench: str | None) -> None:
    """Refuse settings that would be ignored: another benchmark's, or a benchmark's where there is none."""
    fields = type(config).model_fields
    changed = {name for name in config.model_fields_set if getattr(config, name) != fields[name].default}
    if bench is None:
        odd = changed & (set(BenchmarkConfig.model_fields) - set(DrawnConfig.model_fields))
    else:
        odd = changed - SHARED - TAKES[bench]
    for name in sorted(odd):
        where = " or ".join(f"--bench {one}" for one, taken in TAKES.items() if name in taken)
        means = f"means something for {where} only" if where else "means nothing to benchmarks"
        raise ValueError(f"--{name.replace('_', '-')} {means}; leave it out")
