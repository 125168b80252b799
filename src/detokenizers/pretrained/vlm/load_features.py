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
    source = "mini/vlm" if str(name) == "mini" else str(name)
    source = str(resolve(source)) if source.startswith("mini/") else source
    local = Path(source).is_dir()
    dtype = torch.bfloat16 if torch.device(device).type == "cuda" and str(name) != "mini" else torch.float32
    try:
        config: Any = AutoConfig.from_pretrained(source, local_files_only=local)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot load a VLM from {source}: {str(error).strip().splitlines()[0]}") from None
    if config.model_type not in TAPS:
        raise ValueError(f"{source} holds a {config.model_type!r} model; features are known of {', '.join(TAPS)}")
    if config.model_type == "janus":
        vlm = JanusVLM.from_pretrained(source, dtype=dtype)
        words = vlm.form.tokenizer
        return TappedVLM(vlm.model, partial(drawn_from, vlm.form), _pad(words), view).to(device)
    try:
        words = AutoTokenizer.from_pretrained(source, local_files_only=local)
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            source, config=config, dtype=dtype, local_files_only=local, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError, ImportError) as error:
        raise ValueError(f"cannot load a VLM from {source}: {str(error).strip().splitlines()[0]}") from None
    model, report = loaded
    if odd := sorted({*report["missing_keys"], *map(str, report["mismatched_keys"])}):
        raise ValueError(f"the weights in {source} do not fit: {', '.join(odd[:3])} ({len(odd)} in all)")
    return TappedVLM(model, partial(spelt, words), _pad(words), view).to(device)


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
