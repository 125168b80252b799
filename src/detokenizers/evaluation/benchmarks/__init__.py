"""GenEval, DPG-Bench, MJHQ-30K and the embedded world: official files, judges, and scores under their official rules.

from detokenizers.evaluation import benchmarks
report = benchmarks.score("out/geneval", bench="geneval", judge="facebook/mask2former-swin-small-coco-instance",
                          colour_judge="openai/clip-vit-large-patch14")
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..evaluation_settings import BenchmarkConfig

if TYPE_CHECKING:
    from ..reporting import Report


def score(*drawn: str | Path, **settings: Any) -> Report:
    """Score folders in a benchmark's official layout; one that `detok generate --bench` left is one row a decoder.

    Args:
        drawn: the folders.
        settings: those of `BenchmarkConfig`; `bench` is the benchmark.
    """
    from .scoring import scored  # what it imports reads published numbers, which are by this package's names

    return scored(BenchmarkConfig.parse({"drawn": drawn, **settings}))
