"""One word to frozen weights: what is embedded, a folder, or a Hub id the user named.

name -load_vlm-> TokenVLM | -load_tokenizer-> its VisualTokenizer alone, in eval mode, on their device.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from transformers.utils import logging

from ..checkpoint import resolve
from .janus import JanusVLM
from .token_vlm import LlamaTokenVLM
from .vq import JanusVQ
from .vq_weights import load_vq

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


def load_tokenizer(name: str | Path = "mini", *, device: str | torch.device = "cpu") -> JanusVQ:
    """Load the visual tokenizer of a VLM without the VLM: all that training a decoder needs. Names as in `load_vlm`."""
    return JanusVQ(load_vq(folder_of(SHORT.get(str(name), str(name)), ["config.json", "*.safetensors"]))).to(device)


def folder_of(name: str, patterns: Sequence[str]) -> Path:
    """The folder of a name; a Hub id that is no folder here is downloaded, the files of these patterns only.

    Raises:
        ValueError: there is no such folder, and it cannot be had from the Hub.
    """
    try:
        return resolve(name)
    except ValueError:
        if name.startswith(("mini/", ".", "/", "~")) or name.count("/") != 1:
            raise
    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns)))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"there is no folder {name!r} here, and it cannot be had from the Hub: {reason}") from None


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
