"""`detok train`: a recipe, or the run.yaml of a run, into a run folder; the same command goes on where it was cut off.

recipe | run.yaml, overrides -request-> run.yaml in the folder -training.train-> weights, log, curve, preview.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
import yaml

from ..checkpoint import write_text
from ..device import is_first
from ..papers import Run, find
from ..texts import text_in, yaml_of
from ..training import train
from .command_line import parse
from .verbs import Train

RECORD, INPUTS = "run.yaml", "inputs.json"
MAY_CHANGE = frozenset(
    f"train.{name}" for name in ("steps", "checkpointing", "workers", "log_every", "save_minutes", "track")
)
"""Settings that a run may be continued with; all others decide what the weights mean."""


@dataclasses.dataclass(frozen=True)
class Training:
    """A recipe with its overrides applied, and where it goes."""

    run: Run
    out: Path


def request(recipe: str, arguments: Sequence[str]) -> Training:
    """Read `RECIPE [--setting value ...] --out DIR`; every setting of the recipe is an option.

    Raises:
        ValueError: no such recipe or file, a misspelt setting, or a value that does not fit.
    """
    default = load(recipe)
    rest = list(arguments)
    rest.remove(recipe)
    fields: list[Any] = [
        ("run", Annotated[type(default), tyro.conf.arg(name="")], dataclasses.field(default=default)),
        ("out", Annotated[Path, tyro.conf.arg(help="The run folder.")], dataclasses.field(kw_only=True)),
    ]
    kind = dataclasses.make_dataclass("Training", fields, frozen=True)
    text = inspect.getdoc(find(default.recipe))
    read = parse(kind, rest, prog=f"detok train {recipe}", description=text)
    if read.run.recipe != default.recipe:
        raise ValueError(
            f"--recipe is {read.run.recipe!r} but this is {default.recipe!r}; name the recipe first instead"
        )
    return Training(read.run, read.out)


def load(recipe: str) -> Run:
    """A recipe by name, or what a run.yaml says; the file's own `recipe` decides which settings it may have."""
    path = Path(recipe)
    if path.suffix.lower() not in (".yaml", ".yml"):
        return find(recipe)()
    return type(find(name_in(path))()).from_yaml(path)


def name_in(path: Path) -> str:
    """The recipe a run.yaml belongs to."""
    data = yaml_of(text_in(path, "config file"), str(path))
    if not isinstance(data, dict) or not isinstance(data.get("recipe"), str):
        raise ValueError(f"{path} names no recipe; is it a run.yaml? (`detok recipes NAME` prints one)")
    return data["recipe"]


def run(request: Training | Train) -> None:
    """Prepare, write run.yaml and inputs.json, train, and say what came out."""
    if isinstance(request, Train):
        request = Training(load(request.recipe), request.out)
    folder = request.out
    if is_first():
        require_same_run(request.run, folder)
    job = request.run.job()
    if is_first():
        require_same_inputs(job.inputs, folder)
        write_text(folder / RECORD, request.run.to_yaml())
        write_text(folder / INPUTS, json.dumps(dict(job.inputs), indent=1) + "\n")
    losses = train(job, request.run.train, folder)
    report = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
    if is_first():
        print(f"{folder}: {request.run.recipe}, {request.run.train.steps} steps{f', {report}' if report else ''}")


def require_same_run(run: Run, folder: Path) -> None:
    """Refuse a folder that belongs to another run. One without weights belongs to none yet, whatever was tried in it.

    Raises:
        ValueError: the folder holds another recipe, or this one with settings that would make other weights.
    """
    record = folder / RECORD
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder} is a file; give a folder")
    if not record.exists() and folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no {RECORD}; train into a new folder")
    if record.exists() and is_trained(folder):
        if (other := name_in(record)) != run.recipe:
            raise ValueError(f"{folder} holds a run of {other}, not of {run.recipe}; train into a new folder")
        # Read as a run, a record of before a setting existed has that setting's default.
        before, now = (flat(yaml.safe_load(each.to_yaml())) for each in (type(run).from_yaml(record), run))
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key) and key not in MAY_CHANGE:
                raise ValueError(
                    f"{folder} was trained with {key} = {before.get(key)}, not {now.get(key)}; "
                    f"go on with `detok train {record} --out {folder}`, or train into a new folder"
                )


def require_same_inputs(inputs: Mapping[str, str], folder: Path) -> None:
    """Refuse to go on with other pictures or frozen weights than a run began with.

    Raises:
        ValueError: what a setting names is there, but is not what it was.
    """
    record = folder / INPUTS
    if not record.exists() or not is_trained(folder):
        return
    try:
        before = dict(json.loads(record.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise ValueError(f"{record} is damaged; delete it to go on with whatever the settings name now") from None
    changed = [name for name in sorted(before.keys() | inputs.keys()) if before.get(name) != inputs.get(name)]
    if changed:
        raise ValueError(
            f"the {changed[0]} that {folder} was trained with changed since (files were added, removed or replaced); "
            "put back what was there, or train into a new folder"
        )


def is_trained(folder: Path) -> bool:
    """Whether a folder holds weights."""
    return any(not path.name.startswith(".") for path in folder.rglob("*.safetensors"))


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key."""

    def pairs() -> Iterator[tuple[str, Any]]:
        for key, value in settings.items():
            if isinstance(value, dict):
                yield from flat(value, f"{prefix}{key}.").items()
            else:
                yield f"{prefix}{key}", value

    return dict(pairs())
