"""A `JanusVQVAE` on its own: built at any size, saved and loaded in transformers' layout.

JanusSize -build_vq-> JanusVQVAE <-save_vq / load_vq-> config.json + model.safetensors (also out of a whole Janus).
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import JanusConfig, JanusVQVAE, JanusVQVAEConfig

from ..checkpoint import save_tensors, write_text
from .vlm.janus_size import JanusSize, janus_config

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
    if not path.exists():
        raise ValueError(f"there is no tokenizer in {folder}: config.json is missing")
    data = json.loads(path.read_text(encoding="utf-8"))
    whole = data.get("model_type") == "janus"
    config = JanusConfig.from_dict(data).vq_config if whole else JanusVQVAEConfig.from_dict(data)
    assert isinstance(config, JanusVQVAEConfig)
    vq = JanusVQVAE(config)
    prefix = INSIDE_JANUS if whole else ""
    tensors = {name: tensor.float() for name, tensor in _tensors_under(folder, prefix).items()}
    odd = sorted(vq.state_dict().keys() ^ tensors.keys())
    if odd:
        raise ValueError(f"the tokenizer weights in {folder} do not fit: {', '.join(odd[:3])} ({len(odd)} in all)")
    vq.load_state_dict(tensors)
    return vq


def _tensors_under(folder: Path, prefix: str) -> dict[str, Tensor]:
    """The tensors of a prefix from all shards in a folder; nothing else is read."""
    shards = sorted(folder.glob("model*.safetensors"))
    if not shards:
        raise ValueError(f"there are no weights (model*.safetensors) in {folder}")
    found = {}
    for shard in shards:
        try:
            with safe_open(shard, "pt") as file:
                found |= {k.removeprefix(prefix): file.get_tensor(k) for k in file.keys() if k.startswith(prefix)}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(f"{shard} is not a readable safetensors file: {error}") from None
    return found
