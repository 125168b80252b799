"""How good drawn pictures are: what a decoder loses, gains and invents, with an interval beside every number.

    from detokenizers import evaluation
    report = evaluation.evaluate("out/rec", world=1000)     # settings: evaluation/evaluation_settings.py
    print(report.table(), report.save("scores"))

    evaluation.save_reference("stats.safetensors", "real/", protocol="mjhq-cleanfid")
    evaluation.benchmarks.score("out/geneval", bench="geneval", judge=..., colour_judge=...)

`detok evaluate` is the same from the command line. Each file is one measure or one part of the report.

folders, reference -settings-> Evaluator -one pass over the pictures, in shards-> Evidence -measures, distances-> Report
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import benchmarks as benchmarks
    from . import understanding as understanding
    from .evaluation_settings import EvaluationConfig as EvaluationConfig
    from .evaluator import evaluate as evaluate
    from .evaluator import save_reference as save_reference
    from .reporting import Report as Report

_HOMES = {
    "EvaluationConfig": "evaluation_settings",
    "Report": "reporting",
    "evaluate": "evaluator",
    "save_reference": "evaluator",
}


def __getattr__(name: str) -> Any:
    if name in ("benchmarks", "understanding"):
        return import_module(f".{name}", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
