"""`detok evaluate`: folders of pictures against a reference, the score of a benchmark, or statistics of a reference.

folders, reference -evaluation-> results.json, results.md, evaluation.png, the table on stdout
"""

from __future__ import annotations

from pathlib import Path

from ..evaluation.evaluation_settings import BenchmarkConfig, EvaluationConfig
from .command_line import greedy_options


class Evaluate(EvaluationConfig, BenchmarkConfig):
    """Measure folders of pictures against a reference: FD, and PSNR, SSIM and PD where ids pair up.

    What `generate` and `reconstruct` leave is one row per decoder. Ids are relative paths without suffix. Distances
    carry the name of their network (`FD-world`); only what follows a published protocol is called FID.
    Writes results.json, results.md and a sheet; what it has measured is in shards/, so a killed run goes on.

    detok evaluate out/ --world 1000
    """

    save_reference: Path | None = None
    """Only measure the first folder (or --world) and write its statistics to this .safetensors file."""


def run(request: Evaluate) -> None:
    """Measure, write the report, print the table; with --save-reference only the reference's statistics."""
    from ..device import is_first
    from ..evaluation.benchmarks.scoring import require_fitting, scored
    from ..evaluation.evaluator import evaluated, reference_saved

    require_fitting(request, request.bench)
    if not request.drawn and not request.compare and not request.save_reference:
        hint = greedy_options(request, "metrics", "allow")
        raise ValueError(f"name the folders of pictures to measure, or two of them with --compare A B{hint}")
    if request.save_reference:
        print(reference_saved(request.save_reference, request) or waiting(f"writes {request.save_reference}"))
        return
    if request.bench and not is_first():
        return  # judges are asked by one process
    report = scored(request) if request.bench else evaluated(request)
    if report is None:
        print(waiting("writes the report"))
        return
    sheet = report.save()
    print(report.table() + (f"\nLook at {sheet}\n" if sheet else ""), end="")


def waiting(last: str) -> str:
    """What is printed while other processes still measure."""
    return f"this share is done; when the others are, the last of them {last}"
