"""A model card out of what a run folder says: recipe, data, measured numbers with protocol and judge, licences, samples.

folder of a run or of a pipeline (+ results of an evaluation, a sheet of samples) -card_of-> ModelCard
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..texts import json_of, text_in, yaml_of
from .licences import Licence, licence_of, together

RUN, REFERENCE, INDEX, RESULTS, TABLE = "run.yaml", "vlm.json", "model_index.json", "results.json", "results.md"
SETTINGS = ("decoder.yaml", "tokenizer.yaml", REFERENCE, RUN)
NAMED = ("name", "vlm", "start", "words")
"""Settings that name a part by folder or Hub id."""
SHEETS = ("sheet.png", "evaluation.png", "preview.png")
SAMPLES = "samples.png"
PIPELINE = """```python
import detokenizers as dt

pipe = dt.pipeline("{id}")
image = pipe("a red apple on a wooden table").images[0]
```"""
DECODER = """```bash
detok generate "a red apple on a wooden table" --vlm {vlm} --decoder {id} --out out/apple
```

```python
import detokenizers as dt

model = dt.load("{id}")
```"""
LIMITS = (
    "It draws what its tokens or its prompt say and cannot repair what they say wrongly. What it adds it knows from the "
    "pictures that it was trained on."
)


class Part(NamedTuple):
    """What a model is made from, under the setting that names it."""

    setting: str
    name: str

    @property
    def on_hub(self) -> bool:
        """Whether the name reads like a Hub id and is no folder here."""
        own = self.name.startswith(("mini/", "out/", ".", "/", "~")) or Path(self.name).exists()
        return self.name.count("/") == 1 and not own

    @property
    def public(self) -> bool:
        """Whether others find the part by this name."""
        return self.on_hub or self.name.split("/")[0] == "mini"

    @property
    def shown(self) -> str:
        """The name; of a folder on the machine that trained only its last part."""
        return self.name if self.public or self.name.startswith("llamagen-") else f"folder {Path(self.name).name}"


def card_of(
    folder: str | Path,
    *,
    repo_id: str | None = None,
    results: str | Path | None = None,
    row: str | None = None,
    sheet: str | Path | None = None,
    license: str | None = None,
) -> ModelCard:
    """The model card of a folder; a sheet of samples is copied into it.

    Args:
        folder: of a run, or of a saved pipeline.
        repo_id: what the card tells users to load.
        results: a results.json with the results.md beside it, as `detok evaluate` leaves them, or their folder.
        row: the decoder of the results whose numbers are this model's; the last one unless given.
        sheet: a picture of samples; the folder's own preview unless given.
        license: of the model, where you know better than its parts tell (docs/pipelines.md).

    Raises:
        ValueError: results or a sheet that are not there, or a row that the results lack.
    """
    folder = Path(folder)
    settings = {path: loaded(path) for name in SETTINGS for path in sorted(folder.rglob(name))}
    parts = list(dict.fromkeys(part for found in settings.values() for part in parts_in(found)))
    licences = {part: licence_of(part.name) for part in parts}
    whole = Licence(license, license) if license else together(licences.values())
    kind = next((found["kind"] for found in settings.values() if "kind" in found), "model")
    run = next((path for path in settings if path.name == RUN), None)
    vlm = next((part.name for part in parts if part.setting == "vlm" and part.public), "THE-VLM-IT-WAS-TRAINED-FOR")
    numbers = None if results is None else reported(Path(results), row)
    name, is_pipeline, shown = (repo_id or "OWNER/NAME"), (folder / INDEX).is_file(), samples(folder, sheet)
    named = whole.id == "other"
    data = ModelCardData(
        license=whole.id,
        license_name=whole.name if named else None,
        license_link=(whole.link or None) if named else None,
        library_name="detokenizers",
        pipeline_tag="text-to-image",
        tags=["detokenizers", str(kind)],
        base_model=sorted({part.name for part in parts if part.on_hub}) or None,
        model_name=name.split("/")[-1] if numbers else None,
        eval_results=numbers.entries if numbers else None,
    )
    sections = [
        f"# {name.split('/')[-1]}",
        f"A `{kind}` of `detokenizers`, which turns what vision-language models compute for an image into pixels.",
        *([f"![samples]({shown})"] if shown else []),
        "## Use",
        PIPELINE.format(id=name) if is_pipeline else DECODER.format(id=name, vlm=vlm),
        "## Training",
        training(settings[run], run.relative_to(folder).as_posix()) if run else "No record of a training is here.",
        "## Evaluation",
        numbers.text if numbers else "No measured numbers are here.",
        "## Limits",
        LIMITS,
        "## Licences",
        "\n".join(
            [
                "| part | from | licence |\n|---|---|---|\n| code | detokenizers | MIT |",
                *(f"| {part.setting} | {part.shown} | {linked(licences[part])} |" for part in parts),
            ]
        ),
        f"Of the whole: {linked(whole)}.",
    ]
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n")


def loaded(path: Path) -> dict[str, Any]:
    """The settings in a YAML or JSON file."""
    found = (json_of if path.suffix == ".json" else yaml_of)(text_in(path), str(path))
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no settings")
    return found


def parts_in(settings: Mapping[str, Any], within: str = "") -> Iterator[Part]:
    """The folders and Hub ids that settings name."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from parts_in(value, f"{within}{key}.")
        elif key in NAMED and isinstance(value, str) and ("/" in value or value.startswith(("mini", "llamagen-"))):
            yield Part(f"{within}{key}", value)


class Numbers(NamedTuple):
    """What an evaluation found: for readers, and for the Hub's index."""

    text: str
    entries: list[EvalResult]


def reported(path: Path, row: str | None) -> Numbers:
    """The results at a path."""
    path = path / RESULTS if path.is_dir() else path
    found = json_of(text_in(path, "results of an evaluation"), str(path))
    try:
        return measured(path, found, row)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} is no report of `detok evaluate` or `reconstruct` ({what})") from None


def measured(path: Path, found: Mapping[str, Any], row: str | None) -> Numbers:
    """The numbers of one row of a report."""
    row = row or list(found["decoders"])[-1]
    if row not in found["decoders"]:
        raise ValueError(f"{path} has no row {row!r}; it has {', '.join(found['decoders'])}")
    protocol = found.get("protocol") or {}
    tag = f"{protocol['name']} v{protocol['version']}" if protocol else found.get("tag") or found["kind"]
    number = found["n"] if isinstance(found["n"], int) else found["n"][row]  # benchmarks count each decoder's pictures
    networks = (
        [found["judge"]] if "judge" in found else [one["identity"] for one in found.get("extractors", {}).values()]
    )
    measures = found.get("measures", {})

    def judges(key: str) -> list[str]:
        # A distance is its extractor's; a measure's identity is its network's, which has a hash, or else just its name.
        own = measures.get(key.replace("_", "-"))
        return networks if own is None else [own] if ":" in own else []

    entries = [
        EvalResult(
            task_type="image-to-image" if found["kind"] == "reconstruction" else "text-to-image",
            dataset_type=tag.split()[0],
            dataset_name=str(found.get("settings", {}).get("reference", tag)),
            metric_type=key,
            metric_name=one["label"],
            metric_value=one["value"],
            metric_args={"protocol": tag, "n": number, "seed": found["seed"]}
            | ({"judges": judges(key)} if judges(key) else {})
            | {name: one[name] for name in ("low", "high") if one.get(name) is not None},
        )
        for key, one in found["decoders"][row]["metrics"].items()
        if one["value"] is not None
    ]
    seen = sorted({network for key in found["decoders"][row]["metrics"] for network in judges(key)})
    how = f"protocol {tag}, N = {number}, judged by {', '.join(seen) or 'no network'}"
    table = text_in(path.parent / TABLE, "table of the results").strip()
    return Numbers(f"This model is the row `{row}`; {how}.\n\n{table}", entries)


def samples(folder: Path, sheet: str | Path | None) -> str | None:
    """The name of the picture of samples in a folder."""
    if sheet is None:
        return next(
            (path.relative_to(folder).as_posix() for name in SHEETS for path in sorted(folder.rglob(name))), None
        )
    if not Path(sheet).is_file():
        raise ValueError(f"there is no picture of samples at {sheet}")
    shutil.copyfile(sheet, folder / SAMPLES)
    return SAMPLES


def training(run: Mapping[str, Any], record: str) -> str:
    """The recipe, its data and its steps, and where its record has all settings."""
    images, train = run.get("images") or {}, run.get("train") or {}
    # A folder of the machine that trained is nobody else's business, its last part excepted.
    data = [f"{key} {Path(str(value)).name}" for key, value in images.items() if not isinstance(value, (Mapping, list))]
    facts = [
        f"recipe `{run.get('recipe')}`",
        f"data: {', '.join(data) or 'not stated'}",
        ", ".join(f"{name} {train[name]}" for name in ("steps", "batch_size", "lr", "seed") if name in train),
        f"every setting: [{record}]({record})",
    ]
    return "\n".join(f"- {fact}" for fact in facts if fact)


def linked(licence: Licence) -> str:
    """The name of a licence, and where it is."""
    return f"[{licence.name}]({licence.link})" if licence.link else licence.name
