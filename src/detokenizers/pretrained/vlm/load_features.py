"""From a name to a frozen `FeatureVLM`: `mini`, a folder, or a Hub id of one of the families that `TAPS` has.

name -> config.json -> Janus, its prompts spelt as it draws | any other, its prompts after BOS
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer

from ...checkpoint import resolve
from ..weights.models import PATTERNS, load_model, readable
from .feature_vlm import TAPS, TappedVLM, View
from .janus import JanusVLM
from .prompt_formats import PromptFormat, refuse_unknown_words


def load_feature_vlm(
    name: str | Path = "mini",
    *,
    view: View = View(),  # noqa: B008
    device: str | torch.device = "cpu",
) -> TappedVLM:
    """Load a frozen VLM for its features. Nothing is downloaded unless `name` is a Hub id.

    Raises:
        ValueError: nothing is there, it is of another family, or its weights do not fit.
    """
    folder = resolve("mini/vlm" if str(name) == "mini" else name, PATTERNS)
    dtype = torch.bfloat16 if torch.device(device).type == "cuda" and str(name) != "mini" else torch.float32
    with readable(f"{folder} holds no readable VLM"):
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
    if config.model_type not in TAPS:
        raise ValueError(f"{folder} holds a {config.model_type!r} model; features are known of {', '.join(TAPS)}")
    if config.model_type == "janus":
        vlm = JanusVLM.from_pretrained(folder, dtype=dtype)
        words = vlm.form.tokenizer
        return TappedVLM(vlm.model, partial(drawn_from, vlm.form), _pad(words), view).to(device)
    with readable(f"{folder} has no readable tokenizer"):
        words = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    kind: Any = AutoModelForImageTextToText
    return TappedVLM(load_model(kind, folder, dtype=dtype), partial(spelt, words), _pad(words), view).to(device)


def drawn_from(form: PromptFormat, prompt: str) -> list[int]:
    """A prompt as the VLM itself draws from it; "" is none."""
    return form.ids(prompt) if prompt else form.blank()


def spelt(words: Any, prompt: str) -> list[int]:
    """BOS, where there is one, and the prompt."""
    # PAPER GAP (docs/vugen.md#prompt): how a prompt is put to the VLM, and what stands for none, is not given.
    refuse_unknown_words(words, prompt)
    start = words.bos_token_id if words.bos_token_id is not None else words.eos_token_id
    return [start, *words(prompt, add_special_tokens=False)["input_ids"]]


def _pad(words: Any) -> int:
    return words.pad_token_id if words.pad_token_id is not None else words.eos_token_id
