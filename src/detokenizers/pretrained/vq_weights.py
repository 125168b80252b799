"""A `JanusVQVAE` on its own: built at any size, saved and loaded in transformers' layout.

JanusSize -build_vq-> JanusVQVAE <-save_vq / load_vq-> config.json + model.safetensors (also inside a whole Janus folder).
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import JanusConfig, JanusVQVAE, JanusVQVAEConfig

from ..checkpoint import load_tensors, save_tensors, write_text
from .janus_size import JanusSize, janus_config

INSIDE_JANUS = "model.vqmodel."


def build_vq(size: JanusSize) -> JanusVQVAE:
    """A randomly initialised, trainable tokenizer of that size."""
    config = janus_config(size).vq_config
    assert isinstance(config, JanusVQVAEConfig)
    return JanusVQVAE(config)


def save_vq(vq: JanusVQVAE, folder: Path) -> None:
    save_tensors(folder / "model.safetensors", vq.state_dict(), dtype=torch.float16)
    write_text(folder / "config.json", vq.config.to_json_string())


def load_vq(folder: Path) -> JanusVQVAE:
    """Load the tokenizer from its own folder or from that of the Janus it belongs to, in fp32."""
    path = folder / "config.json"
    if not path.exists():
        raise ValueError(f"there is no tokenizer in {folder}: config.json is missing")
    data = json.loads(path.read_text(encoding="utf-8"))
    whole = data.get("model_type") == "janus"
    config = JanusConfig.from_dict(data).vq_config if whole else JanusVQVAEConfig.from_dict(data)
    assert isinstance(config, JanusVQVAEConfig)
    vq = JanusVQVAE(config)
    tensors = load_tensors(folder / "model.safetensors")
    if whole:
        tensors = {k.removeprefix(INSIDE_JANUS): v for k, v in tensors.items() if k.startswith(INSIDE_JANUS)}
    vq.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return vq
