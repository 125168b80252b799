"""One word to a frozen VLM: the embedded one, a folder in transformers' format, or a Hub id the user named.

name -load_vlm-> TokenVLM, in eval mode, on its device.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers.utils import logging

from ..checkpoint import resolve
from .janus import JanusVLM
from .token_vlm import LlamaTokenVLM

SHORT = {"mini": "mini/vlm"}


def load_vlm(name: str | Path = "mini", *, device: str | torch.device = "cpu") -> LlamaTokenVLM:
    """Load a frozen VLM that draws. Nothing is downloaded unless `name` is a Hub id, owner/name.

    Args:
        name: `mini` (embedded), a folder, or a Hub id such as deepseek-community/Janus-Pro-7B.
        device: where it runs; weights are bfloat16 on CUDA and float32 elsewhere, VQ and image head always float32.

    Raises:
        ValueError: nothing is there, it is another kind of model, or its weights do not fit.
    """
    name = SHORT.get(str(name), str(name))
    mini = name.startswith("mini/")
    # The mini VLM is fp32 everywhere: it is small, and its pictures should not depend on the machine.
    half = torch.device(device).type == "cuda" and not mini
    with bars(shown=sys.stderr.isatty() and not mini):
        return JanusVLM.from_pretrained(
            resolve(name) if mini else name, dtype=torch.bfloat16 if half else torch.float32, device=device
        )


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
