"""A transformers model out of one folder, checked: published repositories by sha256, others by recording theirs.

name -resolved-> folder and identity -load_model-> a model every weight of which came from that folder
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from safetensors import SafetensorError
from transformers import PreTrainedModel

from ...digests import sha256_of
from ..vlm.loading import bars
from .published import PUBLISHED, locate

Model = TypeVar("Model", bound=PreTrainedModel)
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


class Source(NamedTuple):
    """Where a model comes from; `identity` names it and the sha256 of its weights."""

    folder: Path
    identity: str


def resolved(name: str | Path) -> Source:
    """The folder of a published repository or of a path.

    Raises:
        ValueError: it is neither, or the folder holds no weights.
    """
    folder = locate(str(name)) if str(name) in PUBLISHED else Path(name).expanduser()
    if not folder.is_dir():
        known = ", ".join(one for one in PUBLISHED if "/" in one)
        raise ValueError(f"there is no folder {str(name)!r}, and it is not one of the published {known}")
    found = [folder / one for one in WEIGHTS if (folder / one).is_file()]
    if not found or not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds no transformers model (config.json and {' or '.join(WEIGHTS)})")
    return Source(folder, f"{str(name).rstrip('/').split('/')[-1]}@sha256:{sha256_of(found[0])}")


def load_model(kind: type[Model], folder: Path) -> Model:
    """Load in fp32 from a local folder; a weight that is missing or of another shape is one clear error."""
    settings: dict[str, Any] = {"local_files_only": True, "output_loading_info": True, "dtype": "float32"}
    try:
        with bars(shown=False):
            loaded: Any = kind.from_pretrained(folder, **settings)
    except (OSError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{folder} cannot be loaded as a {kind.__name__}: {reason}") from None
    model, report = loaded
    odd = [*report["missing_keys"], *(str(key[0]) for key in report["mismatched_keys"])]
    if odd:
        raise ValueError(f"{folder} does not fill a {kind.__name__}: {', '.join(sorted(odd)[:3])} ({len(odd)} in all)")
    return model
