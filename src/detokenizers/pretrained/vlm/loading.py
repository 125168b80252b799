"""One word to frozen weights: what is embedded, a folder, or a Hub id the user named.

name -load_vlm-> TokenVLM | -load_tokenizer-> its VisualTokenizer alone, in eval mode, on their device.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from ...checkpoint import resolve
from ..vq import JanusVQ
from ..vq_weights import load_vq
from ..weights.models import PATTERNS
from .janus import JanusVLM
from .llamagen import STAGES, TEXT_ENCODER, LlamaGenVLM, official_vq
from .token_vlm import LlamaTokenVLM

SHORT = {"mini": "mini/vlm"}
LLAMAGEN = {"llamagen-xl": "t2i_XL_stage1_256", "llamagen-xl-512": "t2i_XL_stage2_512"}
"""`NAME@FOLDER` are LlamaGen's official files in a folder: STAGE.pt, vq_ds16_t2i.pt, flan-t5-xl/."""


def load_vlm(name: str | Path = "mini", *, device: str | torch.device = "cpu") -> LlamaTokenVLM:
    """Load a frozen VLM that draws. Nothing is downloaded unless `name` is a Hub id, owner/name.

    Args:
        name: `mini` (embedded), a folder, a Hub id such as deepseek-community/Janus-Pro-7B, or llamagen-xl@FOLDER.
        device: where it runs; weights are bfloat16 on CUDA and float32 elsewhere, VQ and image head always float32.

    Raises:
        ValueError: nothing is there, it is another kind of model, or its weights do not fit.
    """
    name = SHORT.get(str(name), str(name))
    mini = name.startswith("mini/")
    # The mini VLM is fp32 everywhere: it is small, and its pictures should not depend on the machine.
    dtype = torch.bfloat16 if torch.device(device).type == "cuda" and not mini else torch.float32
    if found := llamagen_in(name):
        return LlamaGenVLM.from_folder(found.folder, stage=found.stage, dtype=dtype, device=device)
    return JanusVLM.from_pretrained(name, dtype=dtype, device=device)


def load_tokenizer(name: str | Path = "mini", *, device: str | torch.device = "cpu") -> JanusVQ:
    """Load the visual tokenizer of a VLM without the VLM: all that training a decoder needs. Names as in `load_vlm`."""
    name = SHORT.get(str(name), str(name))
    if found := llamagen_in(name):
        return JanusVQ(official_vq(found.folder, STAGES[found.stage])).to(device)
    return JanusVQ(load_vq(resolve(name, PATTERNS))).to(device)


class LlamaGenFiles(NamedTuple):
    """Which of LlamaGen's checkpoints, and where."""

    stage: str
    folder: Path


def llamagen_in(name: str) -> LlamaGenFiles | None:
    """What `llamagen-xl@FOLDER` names; None for every other kind of name."""
    kind, separator, folder = name.partition("@")
    if not separator or not kind.startswith("llamagen"):
        return None
    if kind not in LLAMAGEN:
        raise ValueError(f"there is no {kind!r}; {' and '.join(LLAMAGEN)} are known, as in llamagen-xl@FOLDER")
    if not Path(folder).is_dir():
        raise ValueError(
            f"there is no folder {folder!r}, as in {name}; it should hold {LLAMAGEN[kind]}.pt, vq_ds16_t2i.pt and "
            f"{TEXT_ENCODER}/"
        )
    return LlamaGenFiles(LLAMAGEN[kind], Path(folder))
