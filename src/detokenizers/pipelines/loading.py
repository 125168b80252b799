"""One word to a pipeline: a saved one, a VLM with a decoder, or a model that draws from prompts itself.

name -> model_index.json: the pipeline that was saved | kind of the folder: from prompts | a VLM: its decoder
"""

from __future__ import annotations

from pathlib import Path

import torch

from .. import papers
from ..checkpoint import kind_of, resolve
from ..device import device_of
from ..texts import json_of, text_in
from .base import FILES, DrawingPipeline
from .components import REFERENCE, Drawer, FrozenVLM
from .prompts import TextToImagePipeline
from .tokens import TokenDecoderPipeline

INDEX = DrawingPipeline.config_name
CLASSES: dict[str, type[DrawingPipeline]] = {one.__name__: one for one in (TokenDecoderPipeline, TextToImagePipeline)}
OWN = "vq"
"""The VLM's own decoder, by the name that the command line has for it."""


def pipeline(
    name: str | Path, *, decoder: str | Path | None = None, device: str | torch.device = "cpu"
) -> DrawingPipeline:
    """A pipeline by name. Nothing is downloaded unless a name is a Hub id, owner/name.

    Args:
        name: the folder or Hub id of a saved pipeline; with `decoder` a VLM as in `dt.load_vlm`; without one a model
            that draws from prompts, as in `dt.load`.
        decoder: as in `dt.load`, or `vq` for the one that the VLM ships with.
        device: where it runs; a VLM is in bfloat16 on CUDA.

    Raises:
        ValueError: nothing is there, or what is there does not fit.
    """
    device = device_of(str(device))
    if decoder is not None:
        vlm = FrozenVLM.named(str(name), device)
        drawer = None if str(decoder) == OWN else Drawer(_loaded(decoder, device, "tokens"))
        return TokenDecoderPipeline(vlm, drawer)
    try:
        folder = resolve(name, FILES)
        if not (saved := (folder / INDEX).is_file()):
            kind_of(folder)  # fails where nothing draws
    except ValueError as error:
        raise ValueError(f"{error}; a VLM is named with a decoder, decoder={OWN!r} or another") from None
    if not saved:
        return TextToImagePipeline(Drawer(_loaded(folder, device, "prompts")))
    index = json_of(text_in(folder / INDEX), str(folder / INDEX))
    kind = index.get("_class_name") if isinstance(index, dict) else None
    if not isinstance(kind, str) or kind not in CLASSES:
        raise ValueError(f"{folder / INDEX} is of a {kind}; this package has {' and '.join(CLASSES)}")
    # VLMs are loaded on their device, which decides their precision.
    vlms = {path.parent.name: FrozenVLM.loaded(path.parent, device) for path in folder.glob(f"*/{REFERENCE}")}
    return CLASSES[kind].from_pretrained(str(folder), **vlms).to(device)


def _loaded(name: str | Path, device: str | torch.device, source: str) -> torch.nn.Module:
    """What `dt.load` finds, if it draws from this."""
    model = papers.load(name, device=device)
    if model.source != source:
        other = "name a VLM and this as its decoder" if source == "prompts" else "leave the VLM out"
        raise ValueError(f"{name} draws from {model.source}; {other}")
    if not isinstance(model, torch.nn.Module):
        raise ValueError(f"{name} is no torch module, which the components of a pipeline are")
    return model
