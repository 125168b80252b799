"""Put measured tables into the pages that show them: `python scripts/fill_tables.py [README.md docs/results.md]`.

A page says which table stands where in a comment above it, and the table below that line is written anew:

    <!-- table: table2/validation/evaluated -->                            every metric, with intervals
    <!-- table: table3/prompts/evaluated agreement -->                     prompt agreement by task
    <!-- table: table3/prompts/evaluated differences -->                   paired, against the first row
    <!-- table: table2/validation/evaluated plain psnr fd_world -->        these metrics, without intervals, rows in words
    <!-- table: vugen/fig7/generation/*/evaluated -->                      a row for each numbered folder and decoder

What has not been measured yet (out/tables/FOLDER/results.json is not there) keeps the table it has. Distances by published
judges, which have a folder of their own beside it, become further columns.

page with markers, out/tables -results.json of each-> the page with its tables
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from detokenizers.evaluation.results import Result
from detokenizers.evaluation.tables import cell, table

TABLES = Path("out/tables")
MARKED = re.compile(r"(<!-- table: (\S+)(?: (\w+))?((?: \w+)*) -->\n)((?:\|.*\n)*)")
NAMES = {
    "vq": "VQ",
    "vq+unsharp": "VQ + unsharp mask",
    "vq-unrounded": "VQ without rounding to codes",
    "dcdd": "DCDD",
    "cold": "DCDD at temperature 0",
    "one_step": "DCDD in one step",
    "ours": "DCDD, ours",
    "vugen": "VUGEN",
    "decoupled": "Decoupled",
    "repa": "REPA",
    "madit": "MaDiT",
}
CEILINGS = ("vae", "vq-unrounded", NAMES["vq-unrounded"])
"""Rows that no decoder of tokens could be; they are never marked as best."""


def main() -> None:
    for page in sys.argv[1:] or ["README.md", "docs/results.md"]:
        path = Path(page)
        path.write_text(MARKED.sub(written, path.read_text(encoding="utf-8")), encoding="utf-8")


def written(found: re.Match[str]) -> str:
    """One marker and its table."""
    marker, folder, kind, keys, before = found.groups()
    files = sorted(TABLES.glob(f"{folder}/results.json"), key=lambda file: number(file, folder))
    if not files:
        print(f"{TABLES / folder}/results.json is not there; its table stays")
        return marker + before
    result = merged(files, folder) if "*" in folder else read(files[0])
    return f"{marker}{shown(result, kind or 'metrics', keys.split())}\n"


def read(file: Path) -> Result:
    """An evaluation's results, those by published judges with them."""
    result, published = (
        json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"decoders": {}}
        for path in (file, file.parent.parent / "published" / "results.json")
    )
    for name, entry in published["decoders"].items():
        result["decoders"].get(name, entry)["metrics"] |= entry["metrics"]
    return result


def number(file: Path, folder: str) -> float:
    """What stands for the star of a numbered folder."""
    return float(file.relative_to(TABLES).parts[folder.split("/").index("*")]) if "*" in folder else 0.0


def merged(files: list[Path], folder: str) -> Result:
    """One table of several: rows are called after decoder and number, by number alone where there is one decoder."""
    decoders: Result = {}
    for file in files:
        found = read(file)["decoders"]
        for name, entry in found.items():
            decoders[f"{name} {number(file, folder):g}" if len(found) > 1 else f"{number(file, folder):g}"] = entry
    return {"decoders": dict(sorted(decoders.items(), key=lambda row: row[0].rpartition(" ")[0])), "differences": {}}


def shown(result: Result, kind: str, keys: list[str]) -> str:
    """A table of an evaluation's results."""
    entries = result["differences" if kind == "differences" else "decoders"]
    if kind == "agreement":
        rows = {name: agreement(entry) for name, entry in entries.items()}
    else:
        rows = {name: with_score(entry) for name, entry in entries.items()}
    if kind == "differences":
        return table("pair", rows, sign=True)
    if kind == "plain":
        rows = {
            NAMES[name]: {key: row[key] for key in keys if key in row} for name, row in rows.items() if name in NAMES
        }
    text = table("decoder", rows, intervals=kind != "plain")
    for number, key in enumerate(dict.fromkeys(key for row in rows.values() for key in row)):
        column = {name: row[key] for name, row in rows.items() if key in row and row[key]["value"] is not None}
        rivals = {name: one for name, one in column.items() if name not in CEILINGS}
        if rivals:
            text = in_bold(text, number, best(rivals), kind != "plain", rivals)
    return text


def best(column: dict[str, Result]) -> str:
    """The row whose number is best."""
    better = next(iter(column.values()))["better"]
    worth = {"higher": lambda value: -value, "lower": lambda value: value, "one": lambda value: abs(value - 1)}[better]
    return min(column, key=lambda name: worth(column[name]["value"]))


def in_bold(text: str, column: int, row: str, intervals: bool, values: dict[str, Result]) -> str:
    """The table with one number marked."""
    lines = text.split("\n")
    at = next(number for number, line in enumerate(lines) if line.startswith(f"| {row} |"))
    cells = lines[at].split(" | ")
    number = cell(values[row], intervals).split(" ")[0]
    cells[column + 1] = cells[column + 1].replace(number, f"**{number}**", 1)
    lines[at] = " | ".join(cells)
    return "\n".join(lines)


def with_score(entry: Result) -> dict[str, Result]:
    """The metrics and, where prompts were judged, the agreement beside them."""
    judged = (entry.get("agreement") or {}).get("score")
    return {**entry["metrics"], **({"agreement": judged} if judged else {})}


def agreement(entry: Result) -> dict[str, Result]:
    """By task, the overall score first."""
    judged = entry["agreement"]
    return {"score": judged["score"], **judged["tasks"], "background": judged["background"]}


if __name__ == "__main__":
    main()
