"""One word to frozen weights: what is embedded, a folder, or a Hub id the user named.

name -load_vlm-> TokenVLM | -load_tokenizer-> its VisualTokenizer alone, in eval mode, on their device.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub import snapshot_download
from transformers import JanusVQVAE
from transformers.utils import logging

from ...checkpoint import resolve
from ..vq import JanusVQ
from ..vq_weights import load_vq
from ..weights.llamagen_files import read_official, vq_tensors
from .janus import JanusVLM
from .llamagen import STAGES, TEXT_ENCODER, LlamaGenVLM, llamagen_vq
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
    with bars(shown=sys.stderr.isatty() and not mini):
        if found := llamagen_in(name):
            return LlamaGenVLM.from_folder(found.folder, stage=found.stage, dtype=dtype, device=device)
        return JanusVLM.from_pretrained(resolve(name) if mini else name, dtype=dtype, device=device)


def load_tokenizer(name: str | Path = "mini", *, device: str | torch.device = "cpu") -> JanusVQ:
    """Load the visual tokenizer of a VLM without the VLM: all that training a decoder needs. Names as in `load_vlm`."""
    name = SHORT.get(str(name), str(name))
    if found := llamagen_in(name):
        return JanusVQ(official_vq(found)).to(device)
    return JanusVQ(load_vq(folder_of(name, ["config.json", "*.safetensors"]))).to(device)


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
            f"there is no folder {folder!r}, as {name} says; it should hold {LLAMAGEN[kind]}.pt, vq_ds16_t2i.pt and "
            f"{TEXT_ENCODER}/"
        )
    return LlamaGenFiles(LLAMAGEN[kind], Path(folder))


def official_vq(files: LlamaGenFiles) -> JanusVQVAE:
    """LlamaGen's visual tokenizer from its official file, without the GPT."""
    path = files.folder / "vq_ds16_t2i.pt"
    vq = llamagen_vq(STAGES[files.stage])
    try:
        vq.load_state_dict(vq_tensors(read_official(path)))
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit LlamaGen's tokenizer: {str(error).splitlines()[-1].strip()}") from None
    return vq.float()


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
