"""Results as Markdown: one row a decoder, one column a number, its interval beside it, and below how it was made.

result (dict of `reconstruction` or `generation`) -markdown-> text for a README, docs/results.md or the terminal.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..checkpoint import write_text
from .benchmarks.published import METRICS, PUBLISHED
from .results import Result, measured, verdict

ARROWS = {"higher": " ↑", "lower": " ↓", "one": " → 1"}


def markdown(result: Result, *, intervals: bool = True) -> str:
    """The whole report of one result: scores, prompt agreement where there is any, paired differences, provenance."""
    parts = [table("decoder", {name: entry["metrics"] for name, entry in result["decoders"].items()}, intervals)]
    agreements = {name: entry["agreement"] for name, entry in result["decoders"].items() if entry.get("agreement")}
    if agreements:
        rows = {name: _agreement_row(entry) for name, entry in agreements.items()}
        parts.append("Prompt agreement, share of images judged right\n\n" + table("decoder", rows, intervals))
        left_out = {reason: count for entry in agreements.values() for reason, count in entry["not_judged"].items()}
        if left_out:
            parts.append(f"Not judged: {', '.join(f'{count} images ({why})' for why, count in left_out.items())}.")
    if len(result["decoders"]) == 2 and result["differences"]:
        parts.append(comparison(result))
    elif result["differences"]:
        rows = {name: entry["metrics"] for name, entry in result["differences"].items()}
        parts.append("Differences on the same images\n\n" + table("pair", rows, intervals=True, sign=True))
    if papers := beside(result):
        parts.append(papers)
    return "\n\n".join([*parts, *troubles(result), footnote(result)]) + "\n"


def comparison(result: Result) -> str:
    """Two decoders, one metric a row: is the second better than the first, by the interval of the paired difference?"""
    (pair, entry), (first, second) = next(iter(result["differences"].items())), result["decoders"].items()
    lines = [_line(["metric", first[0], second[0], pair, "verdict"]), _line(["---", "---:", "---:", "---:", "---"])]
    for key, gap in entry["metrics"].items():
        values = [_agreed(side) if key == "agreement" else side["metrics"].get(key) for side in (first[1], second[1])]
        said = verdict(gap) or "no interval"
        lines.append(_line([_head(gap), *(cell(value, False) for value in values), cell(gap, sign=True), said]))
    return f"Is {second[0]} better than {first[0]}? Paired on the same images\n\n" + "\n".join(lines)


def beside(result: Result) -> str | None:
    """Our numbers above the paper's, where the protocol belongs to one."""
    rows = [row for row in PUBLISHED.get(result.get("protocol", {}).get("name", ""), ()) if row.kind == result["kind"]]
    if not rows:
        return None
    ours = {f"**{name}** (here)": entry["metrics"] for name, entry in result["decoders"].items()}
    theirs = {
        f"{row.label} ({row.source})": {key: measured(METRICS[key], value) for key, value in row.numbers.items()}
        for row in rows
    }
    return "Beside published numbers\n\n" + table("decoder", {**ours, **theirs}, intervals=False)


def troubles(result: Result) -> list[str]:
    """What was left out or is odd, one line a kind; nothing for a clean run."""
    found, lines = result.get("troubles", {}), []
    for name, entry in found.get("missing", {}).items():
        lines.append(f"Missing in {name}: {entry['number']} pictures, e.g. {entry['first'][0]}.")
    if corrupt := found.get("corrupt"):
        lines.append(f"Left out because they cannot be read: {corrupt['number']} pictures.")
    for name, entry in found.get("copies", {}).items():
        lines.append(f"Alike in every pixel in {name}: {entry['number']} groups, e.g. {entry['first'][0]}.")
    tags = {
        metric["label"]: metric["tag"]
        for entry in result["decoders"].values()
        for metric in entry["metrics"].values()
        if metric.get("tag")
    }
    return [*lines, *(f"{label}: {tag}." for label, tag in tags.items())]


def table(corner: str, rows: Mapping[str, Mapping[str, Result]], intervals: bool = True, sign: bool = False) -> str:
    """Rows of metrics; a metric that one row lacks is a dash there."""
    columns = {key: metric for row in rows.values() for key, metric in row.items()}
    heads = [_head(metric) for metric in columns.values()]
    lines = [_line([corner, *heads]), _line(["---", *["---:"] * len(heads)])]
    for name, row in rows.items():
        lines.append(_line([name, *(cell(row.get(key), intervals, sign) for key in columns)]))
    return "\n".join(lines)


def cell(metric: Result | None, interval: bool = True, sign: bool = False) -> str:
    """`0.654 [0.648, 0.660]`, with as many decimals as the interval makes worth reading."""
    if metric is None or metric["value"] is None:
        return "–"
    bounds = [metric["low"], metric["high"]] if metric["low"] is not None else []
    digits = _digits(metric["value"], *bounds)
    value = f"{metric['value']:{'+' if sign else ''}.{digits}f}"
    if not interval or not bounds:
        return value
    return f"{value} [{bounds[0]:.{digits}f}, {bounds[1]:.{digits}f}]"


def footnote(result: Result) -> str:
    """One line of provenance."""
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    reference = f" against {result['n_reference']} real images" if result.get("n_reference") else ""
    settings = "".join(f"; {name} {value}" for name, value in result["settings"].items())
    level = f"{result['intervals']['level']:.0%}"
    made = result.get("protocol")
    protocol = f"protocol {made['name']} v{made['version']}, files read as {made['load']}; " if made else ""
    return (
        f"N = {result['n']}{reference}; seed {result['seed']}{settings}; brackets: {level} intervals over images; "
        f"{protocol}{_looked(result)}; {result['device']}; {versions}."
    )


def _looked(result: Result) -> str:
    if "extractors" not in result:
        return f"extractor {result['extractor']}"
    return "extractor " + (", ".join(one["identity"] for one in result["extractors"].values()) or "none")


def save(result: Result, folder: str | Path, name: str = "results") -> None:
    """Write `NAME.json` and `NAME.md`, each whole or not at all."""
    write_text(Path(folder) / f"{name}.json", json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(Path(folder) / f"{name}.md", markdown(result))


def _agreed(entry: Result) -> Result | None:
    return (entry.get("agreement") or {}).get("score")


def _agreement_row(entry: Result) -> dict[str, Result]:
    extra = {"background": entry["background"]} if entry["background"] else {}
    score = {"score": entry["score"]} if entry["score"] else {}
    return {**score, **entry["tasks"], **extra}


def _head(metric: Result) -> str:
    return f"{metric['label']}{f' ({unit})' if (unit := metric['unit']) else ''}{ARROWS[metric['better']]}"


def _digits(value: float, *bounds: float) -> int:
    size = max(abs(value), *(abs(bound) for bound in bounds)) if bounds else abs(value)
    if size >= 0.01:
        return 1 if size >= 100 else 2 if size >= 10 else 3 if size >= 0.1 else 4
    return 3 if size == 0 else min(9, 2 - math.floor(math.log10(size)))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
