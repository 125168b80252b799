"""A metric of several evaluations as a plot, one curve a model: VUGEN's Fig. 3 over training steps, Fig. 7 over ratios,
Fig. S3 over guidance, where two metrics are put against each other.

    python benchmarks/curves.py FOLDER --metric fd_world [--against agreement] --out FILE.png

FOLDER/NUMBER/evaluated/results.json, one for each number -> its decoders' values, with intervals -> FILE.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from matplotlib.figure import Figure

from detokenizers.checkpoint import atomic

Point = tuple[float, dict[str, dict[str, float]]]
"""A number, and metrics by name."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Curves of evaluations in numbered folders.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--metric", default="fd_world", help="what is shown upwards")
    parser.add_argument("--against", help="the metric that is shown to the right, in place of the folders' numbers")
    parser.add_argument("--label", default="", help="what the folders' numbers are")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for model, points in curves(args.folder).items():
        y = [metrics[args.metric]["value"] for _, metrics in points]
        x = [metrics[args.against]["value"] if args.against else number for number, metrics in points]
        axes.plot(x, y, marker=".", label=model)
        if args.against:
            for (number, _), *place in zip(points, x, y):
                axes.annotate(f"{number:g}", place, fontsize=7)
        elif all(metrics[args.metric]["low"] is not None for _, metrics in points):
            low, high = ([metrics[args.metric][end] for _, metrics in points] for end in ("low", "high"))
            axes.fill_between(x, low, high, alpha=0.15)
    axes.set(xlabel=args.against or args.label, ylabel=args.metric)
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    with atomic(args.out) as temporary:
        figure.savefig(temporary, dpi=110)


def curves(folder: Path) -> dict[str, list[Point]]:
    """By model, the points in the order of their numbers."""
    found: dict[str, list[Point]] = {}
    reports = sorted(folder.glob("*/evaluated/results.json"), key=lambda path: float(path.parts[-3]))
    if not reports:
        raise SystemExit(f"there is no {folder}/NUMBER/evaluated/results.json; `detok evaluate` writes them")
    for path in reports:
        for model, measured in json.loads(path.read_text())["decoders"].items():
            metrics = measured["metrics"]
            if measured.get("agreement"):
                metrics["agreement"] = measured["agreement"]["score"]
            found.setdefault(model, []).append((float(path.parts[-3]), metrics))
    return found


if __name__ == "__main__":
    main()
