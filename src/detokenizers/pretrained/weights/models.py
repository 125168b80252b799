"""A model of transformers or diffusers out of one folder: every weight comes from there, fits, and is finite.

name -source_of-> folder, and an identity with the weights' sha256 ; folder -load_model-> the model
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors import SafetensorError
from torch import nn
from transformers.utils import logging

from ...checkpoint import reason, require_finite, require_fit, resolve
from ...digests import sha256s_of
from .published import PUBLISHED, locate

Model = TypeVar("Model", bound=nn.Module)
PATTERNS = ("*.json", "*.jinja", "*.model", "merges.txt", "model*.safetensors")
"""What is needed of a transformers repository."""
LONG = 2**30
"""Bytes of weights whose loading shows a bar."""


class ModelFolder(NamedTuple):
    """Where a model comes from; `identity` names it and the sha256 of its weights."""

    folder: Path
    identity: str


def source_of(name: str | Path) -> ModelFolder:
    """The folder of a published network, of a path, or of a Hub id; published ones are verified.

    Raises:
        ValueError: there is none, or it holds no weights.
    """
    folder = locate(str(name)) if str(name) in PUBLISHED else resolve(name, PATTERNS)
    files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model.bin"))
    if not files or not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds no transformers model (config.json and model.safetensors)")
    digest, *more = sha256s_of(files)
    if more:
        digest = hashlib.sha256("".join([digest, *more]).encode()).hexdigest()
    return ModelFolder(folder, f"{str(name).rstrip('/').split('/')[-1]}@sha256:{digest}")


def load_model(
    kind: type[Model], folder: Path, *, dtype: torch.dtype | str | None = torch.float32, whole: bool = False
) -> Model:
    """Load a model from a folder that is here.

    Args:
        kind: the class, of transformers or diffusers, or one of transformers' Auto classes.
        dtype: of its weights; for transformers "auto" is that of the file.
        whole: whether a weight that the model has no place for is an error, as it is unless the file holds more than
            this model.

    Raises:
        ValueError: it is not such a model, or a weight is missing, of another shape, or not finite.
    """
    loader: Any = kind
    settings: dict[str, Any] = {"local_files_only": True, "output_loading_info": True}
    if kind.__module__.startswith("diffusers."):
        settings |= {"torch_dtype": dtype}
    else:
        settings |= {"dtype": dtype, "ignore_mismatched_sizes": True}  # then they are reported, by name
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    try:
        with bars(shown=sys.stderr.isatty() and size > LONG):
            model, report = loader.from_pretrained(str(folder), **settings)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(f"{folder} cannot be loaded as a {kind.__name__}: {reason(error)}") from None
    require_fit(
        kind.__name__,
        folder,
        missing=sorted(report["missing_keys"]),
        unknown=sorted(report["unexpected_keys"]) if whole else (),
        shapes=sorted(report["mismatched_keys"]),
    )
    require_finite(model.state_dict(), folder)
    return model


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Whatever transformers says about a config, a tokenizer or a processor becomes one line: `what`, and its first."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{what}: {reason(error)}") from None


@contextmanager
def bars(*, shown: bool) -> Iterator[None]:
    """Transformers draws its loading bar even into pipes; here it follows the rule of all other bars."""
    if shown:
        yield
        return
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()
