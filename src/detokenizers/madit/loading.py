"""Folders that MaDiT's trainings leave, to what writes and what reads its tokens.

folder -load_language-> TokenVLM ; folder -load_own_codes-> VisualTokenizer ; both frozen
"""

from __future__ import annotations

from pathlib import Path

import torch

from ..checkpoint import EMBEDDED, resolve
from ..pretrained.vlm.visual_vocabulary import VisualVocabulary
from ..pretrained.vlm.visual_words import VOCABULARY, VisualWordsVLM
from .model import TOKENIZER
from .tokenizer import MaDiTTokenizer, load_codes


def writes_images(folder: Path) -> bool:
    """Whether a folder holds a language model with visual words."""
    return (folder / VOCABULARY).exists()


def holds_codes(folder: Path) -> bool:
    """Whether a folder holds codes: that of a MaDiT, or of a language model that writes them."""
    return codes_of(folder).is_dir()


def codes_of(folder: Path) -> Path:
    """Where they lie: in the folder, or in that of the MaDiT that its visual vocabulary names."""
    named = VisualVocabulary.from_yaml(folder / VOCABULARY).tokenizer if writes_images(folder) else None
    return (resolve(named) if named else folder) / TOKENIZER


def load_language(folder: Path, *, device: str | torch.device = "cpu") -> VisualWordsVLM:
    """The language model with visual words in a folder, with the tokenizer whose codes they are."""
    # As everywhere: bfloat16 on CUDA, but what is embedded is small, and should not depend on the machine.
    fast = torch.device(device).type == "cuda" and not folder.is_relative_to(EMBEDDED)
    dtype = torch.bfloat16 if fast else torch.float32
    return VisualWordsVLM.from_pretrained(folder, load_own_codes(folder), dtype=dtype).to(device)


def load_own_codes(folder: Path, *, device: str | torch.device = "cpu") -> MaDiTTokenizer:
    """The tokenizer in a folder.

    Raises:
        ValueError: its codes are borrowed, so that another tokenizer reads its images.
    """
    codes = load_codes(codes_of(folder))
    if not isinstance(codes, MaDiTTokenizer):
        raise ValueError(f"{folder} borrows its codes; name the VLM that they belong to")
    return codes.to(device)
