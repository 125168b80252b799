"""Results as Markdown: one row a decoder, one column a number, its interval beside it, and below how it was made.

result of an evaluation or a benchmark -markdown-> text for results.md, docs/results.md or the terminal
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from .anchors import ANCHORS, METRICS, ROWS
from .results import Result, measured, verdict

ARROWS = {"higher": " ↑", "lower": " ↓", "one": " → 1"}
SET_SIZE = re.compile(r" \(N ?= ?[\d,]+\)")


def markdown(result: Result) -> str:
    """The whole report: scores, differences, published numbers beside them, what is odd, and provenance."""
    parts = _benchmark(result) if result["kind"] == "benchmark" else _evaluation(result)
    return "\n\n".join([*parts, footnote(result)]) + "\n"


def _evaluation(result: Result) -> list[str]:
    parts = [table("decoder", {name: entry["metrics"] for name, entry in result["decoders"].items()})]
    agreements = {name: entry["agreement"] for name, entry in result["decoders"].items() if entry.get("agreement")}
    if agreements:
        rows = {name: _agreement_row(entry) for name, entry in agreements.items()}
        parts.append("Prompt agreement, share of images judged right\n\n" + table("decoder", rows))
        left_out = {reason: count for entry in agreements.values() for reason, count in entry["not_judged"].items()}
        if left_out:
            parts.append(f"Not judged: {', '.join(f'{count} images ({why})' for why, count in left_out.items())}.")
    if len(result["decoders"]) == 2 and result["differences"]:
        parts.append(comparison(result))
    elif result["differences"]:
        parts.append("Differences on the same images\n\n" + _differences(result))
    papers = beside(result)
    return [*parts, *([papers] if papers else []), *troubles(result)]


def _benchmark(result: Result) -> list[str]:
    parts = [f"# {result['tag']}", table("decoder", {n: entry["metrics"] for n, entry in result["decoders"].items()})]
    for kind in ("broad", "detailed"):
        parts += [
            f"{name}, {kind} categories\n\n{table('category', entry[kind])}"
            for name, entry in result["decoders"].items()
            if entry.get(kind)
        ]
    if result["differences"]:
        parts.append("Differences on the same prompts and samples\n\n" + _differences(result))
    parts += [anchored(result)] if ANCHORS[result["benchmark"]] else []
    return [*parts, *(f"{note}." for note in notes(result))]


def _differences(result: Result) -> str:
    return table("pair", {name: entry["metrics"] for name, entry in result["differences"].items()}, sign=True)


def comparison(result: Result) -> str:
    """Two decoders, one metric a row: is the second better than the first, by the interval of the paired difference?"""
    (pair, entry), (first, second) = next(iter(result["differences"].items())), result["decoders"].items()
    lines = [_line(["metric", first[0], second[0], pair, "verdict"]), _line(["---", "---:", "---:", "---:", "---"])]
    for key, gap in entry["metrics"].items():
        values = [_agreed(side) if key == "agreement" else side["metrics"].get(key) for side in (first[1], second[1])]
        decided = verdict(gap) or "no interval"
        lines.append(_line([_head(gap), *(cell(value, False) for value in values), cell(gap, sign=True), decided]))
    return f"Is {second[0]} better than {first[0]}? Paired on the same images\n\n" + "\n".join(lines)


def beside(result: Result) -> str | None:
    """Our numbers above the paper's, where the protocol belongs to one."""
    rows = [row for row in ROWS.get(result.get("protocol", {}).get("name", ""), ()) if row.kind == result["kind"]]
    if not rows:
        return None
    ours = {f"**{name}** (here)": entry["metrics"] for name, entry in result["decoders"].items()}
    theirs = {
        f"{row.label} ({row.source})": {key: measured(METRICS[key], value) for key, value in row.numbers.items()}
        for row in rows
    }
    return "Beside published numbers\n\n" + table("decoder", {**ours, **theirs}, intervals=False)


def anchored(result: Result) -> str:
    """Published numbers of a benchmark under the same heads, each with whether it compares."""
    first = next(iter(result["decoders"].values()))["metrics"]
    keys = [key for key in first if any(key in one.numbers for one in ANCHORS[result["benchmark"]])]
    heads = [SET_SIZE.sub("", first[key]["label"]) for key in keys]
    lines = [f"| published | {' | '.join(heads)} | comparable |", f"|---|{'---:|' * len(keys)}---|"]
    whole = not result["partial"] and not result.get("not_comparable")
    protocol = result.get("protocol", {}).get("name")
    for one in ANCHORS[result["benchmark"]]:
        bare = {"low": None, "high": None}
        values = [cell({**first[key], "value": one.numbers.get(key), **bare}) for key in keys]
        compares = one.comparable(protocol, whole=whole)
        lines.append(f"| {one.model} ({one.source}) | {' | '.join(values)} | {compares} |")
    return "Published numbers\n\n" + "\n".join(lines)


def notes(result: Result) -> list[str]:
    """What a reader must know beside the numbers of a benchmark."""
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


def troubles(result: Result) -> list[str]:
    """What was left out or is odd, one line a kind; nothing for a clean run."""
    found, lines = result["troubles"], []
    for name, entry in found["missing"].items():
        lines.append(f"Missing in {name}: {entry['number']} pictures, e.g. {entry['first'][0]}.")
    if corrupt := found["corrupt"]:
        lines.append(f"Left out because they cannot be read: {corrupt['number']} pictures.")
    for name, entry in found["copies"].items():
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
    settings = "".join(f"; {name} {value}" for name, value in result["settings"].items())
    level = f"{result['intervals']['level']:.0%}"
    if result["kind"] == "benchmark":
        pictures = ", ".join(f"{name} {number:,}" for name, number in result["n"].items())
        return (
            f"{result['prompts']:,} prompts; pictures: {pictures}; brackets: {level} bootstrap intervals over prompts; "
            f"seed {result['seed']}{settings}; judge {result['judge']}; {result['device']}; {versions}."
        )
    reference = f" against {result['n_reference']} real images" if result.get("n_reference") else ""
    protocol = "protocol {name} v{version}, files read as {load}".format_map(result["protocol"])
    networks = ", ".join(one["identity"] for one in result["extractors"].values()) or "none"
    return (
        f"N = {result['n']}{reference}; seed {result['seed']}{settings}; brackets: {level} intervals over images; "
        f"{protocol}; extractor {networks}; {result['device']}; {versions}."
    )


def _agreed(entry: Result) -> Result | None:
    return (entry.get("agreement") or {}).get("score")


def _agreement_row(entry: Result) -> dict[str, Result]:
    extra = {"background": entry["background"]} if entry["background"] else {}
    score = {"score": entry["score"]} if entry["score"] else {}
    return {**score, **entry["tasks"], **extra}


def _head(metric: Result) -> str:
    return f"{metric['label']}{f' ({unit})' if (unit := metric['unit']) else ''}{ARROWS[metric['better']]}"


def _digits(value: float, *bounds: float) -> int:
    size = max(map(abs, (value, *bounds)))
    if size >= 0.01:
        return 1 if size >= 100 else 2 if size >= 10 else 3 if size >= 0.1 else 4
    return 3 if size == 0 else min(9, 2 - math.floor(math.log10(size)))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
