"""One word to a frozen VLM: the embedded one, a folder in transformers' format, or a Hub id the user named.

name -load_vlm-> TokenVLM, in eval mode, on its device.
"""

from __future__ import annotations

from pathlib import Path

import torch

from ..checkpoint import resolve
from .janus import JanusVLM
from .token_vlm import LlamaTokenVLM

EMBEDDED = {"mini": "mini/vlm"}


def load_vlm(name: str | Path = "mini", *, device: str | torch.device = "cpu") -> LlamaTokenVLM:
    """Load a frozen VLM that draws. Nothing is downloaded unless `name` is a Hub id, owner/name.

    Args:
        name: `mini` or `mini/vlm`, a folder, or a Hub id such as deepseek-community/Janus-Pro-7B.
        device: where it runs; weights are bfloat16 on CUDA and float32 elsewhere, VQ and image head always float32.

    Raises:
        ValueError: nothing is there, it is another kind of model, or its weights do not fit.
    """
    name = EMBEDDED.get(str(name), str(name))
    folder = resolve(name) if name.startswith("mini/") else name
    # The mini VLM is fp32 everywhere: it is small, and its pictures should not depend on the machine.
    half = torch.device(device).type == "cuda" and not name.startswith("mini/")
    return JanusVLM.from_pretrained(folder, dtype=torch.bfloat16 if half else torch.float32, device=device)
