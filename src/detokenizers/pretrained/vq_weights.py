"""A `JanusVQVAE` on its own: built at any size, saved and loaded in transformers' layout.

JanusSize -build_vq-> JanusVQVAE <-save_vq / load_vq-> config.json + model.safetensors (also out of a whole Janus).
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import JanusConfig, JanusVQVAE, JanusVQVAEConfig

from ..checkpoint import load_strictly, save_tensors, write_text
from ..texts import json_of, text_in
from .vlm.janus_size import JanusSize, janus_config
from .weights.formats import tensors_under

INSIDE_JANUS = "model.vqmodel."


def build_vq(size: JanusSize) -> JanusVQVAE:
    """A randomly initialised, trainable tokenizer of that size."""
    config = janus_config(size).vq_config
    assert isinstance(config, JanusVQVAEConfig)
    return JanusVQVAE(config)


def save_vq(vq: JanusVQVAE, folder: Path) -> None:
    """Write config and weights (fp16) as transformers would."""
    save_tensors(folder / "model.safetensors", vq.state_dict(), dtype=torch.float16)
    write_text(folder / "config.json", vq.config.to_json_string())


def load_vq(folder: Path) -> JanusVQVAE:
    """Load the tokenizer from its own folder or from that of the Janus it belongs to, in fp32."""
    path = folder / "config.json"
    data = json_of(text_in(path, "tokenizer"), str(path))
    whole = data.get("model_type") == "janus"
    config = JanusConfig.from_dict(data).vq_config if whole else JanusVQVAEConfig.from_dict(data)
    assert isinstance(config, JanusVQVAEConfig)
    vq = JanusVQVAE(config)
    load_strictly(vq, tensors_under(folder, INSIDE_JANUS if whole else ""), folder)
    return vq
