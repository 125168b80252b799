"""LlamaGen's official .pt files as tensors under transformers' names.

The GPT is a Llama with three changes of spelling: q, k, v are stacked in one matrix; rotary pairs are interleaved, so
rows of q and k are reordered per head; and what transformers calls `embed_tokens` holds image tokens. The VQ is Janus'
network under other names.

FILE.pt -tensors_in-> official names -gpt_tensors | vq_tensors-> names of LlamaModel, CaptionProjection, JanusVQVAE.
"""

from __future__ import annotations

import re

from jaxtyping import Float
from torch import Tensor

BLOCK = {
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w3": "mlp.up_proj",
    "feed_forward.w2": "mlp.down_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
OUTSIDE = {
    "tok_embeddings.weight": "llama.embed_tokens.weight",
    "norm.weight": "llama.norm.weight",
    "output.weight": "output.weight",
    "cls_embedding.cap_proj.fc1.weight": "caption.fc1.weight",
    "cls_embedding.cap_proj.fc2.weight": "caption.fc2.weight",
    "cls_embedding.uncond_embedding": "caption.uncond",
}


def half_split(rows: Float[Tensor, "o h"], heads: int) -> Float[Tensor, "o h"]:
    """Reorder rows per head from interleaved rotary pairs (0, 1), (2, 3), ... to halves (0, 2, ... | 1, 3, ...)."""
    return rows.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def gpt_tensors(official: dict[str, Tensor], heads: int) -> dict[str, Tensor]:
    """Name the GPT's tensors as `LlamaGen` does; unknown names are one clear error."""
    named: dict[str, Tensor] = {}
    for name, tensor in official.items():
        block = re.fullmatch(r"layers\.(\d+)\.(.+)\.weight", name)
        if name in OUTSIDE:
            named[OUTSIDE[name]] = tensor
        elif block and block[2] == "attention.wqkv":
            q, k, v = tensor.chunk(3)
            prefix = f"llama.layers.{block[1]}.self_attn"
            named[f"{prefix}.q_proj.weight"] = half_split(q, heads)
            named[f"{prefix}.k_proj.weight"] = half_split(k, heads)
            named[f"{prefix}.v_proj.weight"] = v
        elif block and block[2] in BLOCK:
            named[f"llama.layers.{block[1]}.{BLOCK[block[2]]}.weight"] = tensor
        else:
            raise ValueError(f"tensor {name!r} does not belong to a LlamaGen text-to-image GPT; is this another model?")
    return named


def vq_tensors(official: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name the VQ-16's tensors as transformers' `JanusVQVAE` does; the usage record of its training is dropped."""
    named = {}
    for name, tensor in official.items():
        if name == "quantize.codebook_used":
            continue
        name = name.replace("encoder.conv_blocks.", "encoder.down.").replace("decoder.conv_blocks.", "decoder.up.")
        name = name.replace(".res.", ".block.")
        for index, part in enumerate(("block_1", "attn_1", "block_2")):
            name = name.replace(f".mid.{index}.", f".mid.{part}.")
        named[name] = tensor
    return named
