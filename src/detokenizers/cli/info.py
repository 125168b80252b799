"""`detok info`: what a run folder holds, without running anything.

run folder -> recipe, steps done, one line per safetensors file (tensors, parameters, size, fingerprint).
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from ..checkpoint import fingerprint, load_tensors, resolve
from ..training.state import STATE
from .train import RECORD, name_in
from .verbs import Info


def run(request: Info) -> None:
    """Print the facts; damaged weights are an error."""
    folder = resolve(request.run)
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; give the folder of a run")
    # A run killed while it saved leaves a temporary file, whose name begins with a dot.
    files = sorted(path for path in folder.rglob("*.safetensors") if not path.name.startswith("."))
    if not files:
        raise ValueError(f"{folder} holds no weights (*.safetensors); is it a run folder?")
    facts = {"folder": str(folder), **_origin(folder)}
    for path in files:
        tensors = load_tensors(path)
        numbers = sum(tensor.numel() for tensor in tensors.values())
        kinds = Counter({str(tensor.dtype).removeprefix("torch."): 0 for tensor in tensors.values()})
        for tensor in tensors.values():
            kinds[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
        facts[str(path.relative_to(folder))] = (
            f"{len(tensors)} tensors, {numbers:,} numbers ({', '.join(kind for kind, _ in kinds.most_common())}), "
            f"{path.stat().st_size / 1e6:.1f} MB, sha256 {fingerprint(tensors)[:16]}"
        )
    width = max(map(len, facts))
    for name, fact in facts.items():
        print(f"{name:{width}}  {fact}")


def _origin(folder: Path) -> dict[str, str]:
    """Where the weights come from: a recipe of ours, or a model in transformers' or diffusers' format."""
    facts: dict[str, str] = {}
    if (folder / RECORD).exists():
        facts["recipe"] = name_in(folder / RECORD)
    if (folder / STATE).exists():
        facts["steps done"] = str(int(load_tensors(folder / STATE)["step"]))
    if (folder / "config.json").exists():
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        facts["model"] = str(config.get("model_type") or config.get("_class_name") or "unnamed")
    return facts
