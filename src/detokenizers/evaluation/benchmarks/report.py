"""A benchmark's result as Markdown: decoders, differences, published numbers beside them, and by whom it was judged.

result -markdown-> results.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..results import Result
from ..tables import cell, table
from .numbers import ANCHORS

SET_SIZE = re.compile(r" \(N ?= ?[\d,]+\)")


def markdown(result: Result) -> str:
    """The whole report."""
    decoders = {name: entry["metrics"] for name, entry in result["decoders"].items()}
    parts = [f"# {result['tag']}", table("decoder", decoders)]
    for kind in ("broad", "detailed"):
        parts += [
            f"{name}, {kind} categories\n\n{table('category', entry[kind])}"
            for name, entry in result["decoders"].items()
            if entry.get(kind)
        ]
    if result["differences"]:
        gaps = {name: entry["metrics"] for name, entry in result["differences"].items()}
        parts.append("Differences on the same prompts and samples\n\n" + table("pair", gaps, sign=True))
    parts += [beside(result)] if ANCHORS[result["benchmark"]] else []
    parts += [f"{note}." for note in notes(result)]
    return "\n\n".join([*parts, footnote(result)]) + "\n"


def beside(result: Result) -> str:
    """Published numbers under the same heads, each with whether it compares."""
    first = next(iter(result["decoders"].values()))["metrics"]
    keys = [key for key in first if any(key in one.numbers for one in ANCHORS[result["benchmark"]])]
    heads = [SET_SIZE.sub("", first[key]["label"]) for key in keys]
    lines = [f"| published | {' | '.join(heads)} | comparable |", f"|---|{'---:|' * len(keys)}---|"]
    whole = not result["partial"] and not result.get("not_comparable")
    protocol = result.get("protocol", {}).get("name")
    for one in ANCHORS[result["benchmark"]]:
        values = [cell(_number(first[key], one.numbers.get(key))) for key in keys]
        compares = one.comparable(protocol, whole=whole)
        lines.append(f"| {one.who} ({one.source}) | {' | '.join(values)} | {compares} |")
    return "Published numbers\n\n" + "\n".join(lines)


def _number(ours: Mapping[str, Any], value: float | None) -> Result | None:
    metric = {**ours, "value": value, "low": None, "high": None}
    return None if value is None else metric


def notes(result: Result) -> list[str]:
    """What a reader must know beside the numbers."""
    found = []
    if result["partial"]:
        found.append("PARTIAL: not all of the benchmark's prompts; this is no score of the benchmark")
    if why := result.get("not_comparable"):
        found.append(f"The distances are {why} with published ones")
    if skipped := next((entry["skipped"] for entry in result["decoders"].values() if entry.get("skipped")), None):
        found.append(f"The official script skips {len(skipped)} items, e.g. {skipped[0]}")
    if missing := result.get("missing_parents"):
        found.append(
            f"{len(missing)} dependencies name a question that is not there, e.g. {missing[0]}; they were ignored"
        )
    if unknown := result.get("not_judged"):
        found.append("Not judged: " + ", ".join(f"{number} pictures ({why})" for why, number in unknown.items()))
    return found


def footnote(result: Result) -> str:
    """One line of provenance."""
    pictures = ", ".join(f"{name} {number:,}" for name, number in result["n"].items())
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    settings = "".join(f"; {name} {value}" for name, value in result["settings"].items())
    level, device = result["intervals"]["level"], result["device"]
    return (
        f"{result['prompts']:,} prompts; pictures: {pictures}; brackets: {level:.0%} bootstrap intervals over prompts; "
        f"seed {result['seed']}{settings}; judge {result['judge']}; {device}; {versions}."
    )
