"""A decoder that draws otherwise, with the same weights: a copy of its folder with other settings, of any paper.

    python scripts/vary_decoder.py mini/dcdd out/rows/cold temperature=0.0
    python scripts/vary_decoder.py out/madit/mini_flow out/rows/cfg sampling.guidance.weight=1.5 \
        'sampling.order.score={kind: random}'

folder, settings -> folder
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import yaml

from detokenizers import papers
from detokenizers.checkpoint import resolve, write_text

CONFIG = "decoder.yaml"


def main() -> None:
    """Copy what is needed to draw, then change its settings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a folder, or the name of something embedded")
    parser.add_argument("target", type=Path)
    parser.add_argument("changes", nargs="*", help="KEY=VALUE, the value in YAML")
    given = parser.parse_args()
    pairs = (change.split("=", 1) for change in given.changes)
    source = resolve(given.source)
    decoder: Any = papers.load(source)
    config = decoder.config.vary({key: yaml.safe_load(value) for key, value in pairs})
    leftovers = shutil.ignore_patterns("state*", "*.png", "log.jsonl", "run.yaml")
    shutil.copytree(source, given.target, dirs_exist_ok=True, ignore=leftovers)
    write_text(given.target / CONFIG, config.to_yaml())


if __name__ == "__main__":
    main()
