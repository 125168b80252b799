"""A run folder: which run it belongs to, whether another call may go on in it, and what it holds.

run -train_into-> run.yaml, inputs.json, weights, log, curve, preview ; folder -contents-> facts by name
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_file

from ..checkpoint import fingerprint, load_tensors, resolve, write_text
from ..data.marks import require_writable
from ..device import is_first
from ..peers import SIGNS, Peers
from ..texts import json_of, text_in, yaml_of
from .loop import train
from .run import Run
from .state import STEP, whole_state

RECORD, INPUTS = "run.yaml", "inputs.json"
MAY_CHANGE = frozenset(
    f"train.{name}" for name in ("steps", "checkpointing", "workers", "log_every", "save_minutes", "track")
)
"""Settings that a run may be continued with; all others decide what the weights mean."""


def train_into(run: Run, folder: Path) -> dict[str, float]:
    """Train a run into its folder, or go on with it there; returns the last logged losses.

    Raises:
        ValueError: the folder belongs to another run, what the run is made from has changed since, or another process
            died.
    """
    if is_first():
        require_same_run(run, folder)
    with Peers(folder, ends=True):
        job = run.job()
        if is_first():
            require_same_inputs(job.inputs, folder)
            write_text(folder / RECORD, run.to_yaml())
            write_text(folder / INPUTS, json.dumps(dict(job.inputs), indent=1) + "\n")
        return train(job, run.train, folder)


def recipe_in(path: Path) -> str:
    """The recipe a run.yaml belongs to."""
    data = yaml_of(text_in(path, "config file"), str(path))
    if not isinstance(data, dict) or not isinstance(data.get("recipe"), str):
        raise ValueError(f"{path} names no recipe; is it a run.yaml? (`detok recipes NAME` prints one)")
    return data["recipe"]


def require_same_run(run: Run, folder: Path) -> None:
    """Refuse a folder that belongs to another run. One without weights belongs to none yet, whatever was tried in it.

    Raises:
        ValueError: the folder holds another recipe, or this one with settings that would make other weights.
    """
    record = folder / RECORD
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder} is a file; give a folder")
    require_writable(folder)
    if not record.exists() and folder.exists() and any(path.name != SIGNS for path in folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no {RECORD}; train into a new folder")
    if record.exists() and is_trained(folder):
        if (other := recipe_in(record)) != run.recipe:
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
    # What the record does not name was not recorded yet when the run began.
    changed = [name for name in sorted(before) if before[name] != inputs.get(name)]
    if changed:
        raise ValueError(
            f"the {changed[0]} that {folder} was trained with changed since (files were added, removed or replaced); "
            "put back what was there, or train into a new folder"
        )


def is_trained(folder: Path) -> bool:
    """Whether a folder holds weights."""
    return bool(_weights(folder))


def _weights(folder: Path) -> list[Path]:
    """Files of weights; what a run that was killed while it saved leaves has a name that begins with a dot."""
    found = sorted(folder.rglob("*.safetensors"))
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key."""

    def pairs() -> Iterator[tuple[str, Any]]:
        for key, value in settings.items():
            if isinstance(value, dict):
                yield from flat(value, f"{prefix}{key}.").items()
            else:
                yield f"{prefix}{key}", value

    return dict(pairs())


def contents(name: str) -> dict[str, str]:
    """Where the weights of a folder come from, and one line per safetensors file; damaged weights are an error."""
    folder = resolve(name)
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; give the folder of a run")
    files = _weights(folder)
    if not files:
        raise ValueError(f"{folder} holds no weights (*.safetensors); is it a run folder?")
    facts = {"folder": str(folder), **_origin(folder)}
    for path in files:
        tensors, stored = load_tensors(path), Counter[str]()
        for tensor in load_file(path).values():
            stored[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
        numbers, kinds = sum(tensor.numel() for tensor in tensors.values()), [kind for kind, _ in stored.most_common()]
        facts[str(path.relative_to(folder))] = (
            f"{len(tensors)} tensors, {numbers:,} numbers ({', '.join(kinds)}), "
            f"{path.stat().st_size / 1e6:.1f} MB, sha256 {fingerprint(tensors)[:16]}"
        )
    return facts


def _origin(folder: Path) -> dict[str, str]:
    """Where the weights come from: a recipe of ours, or a model in transformers' or diffusers' format."""
    facts: dict[str, str] = {}
    if (folder / RECORD).exists():
        facts["recipe"] = recipe_in(folder / RECORD)
    if state := whole_state(folder, [STEP]):
        facts["steps done"] = str(int(state[STEP]))
    if (path := folder / "config.json").exists():
        config = json_of(text_in(path), str(path))
        named = [config.get(key) for key in ("model_type", "_class_name")] if isinstance(config, dict) else []
        facts["model"] = str(next(filter(None, named), "unnamed"))
    return facts
