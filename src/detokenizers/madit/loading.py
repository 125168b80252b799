"""A language model's folder to what writes tokens.

folder -load_language-> TokenVLM, frozen
"""

from __future__ import annotations

from pathlib import Path

from ..pretrained.vlm.visual_words import VisualWordsVLM
from .model import TOKENIZER
from .tokenizer import load_codes


def load_language(folder: Path) -> VisualWordsVLM:
    """The language model with visual words in a folder, with the tokenizer whose codes they are."""
    return VisualWordsVLM.from_pretrained(folder, load_codes(folder / TOKENIZER))  # pyright: ignore[reportArgumentType]
