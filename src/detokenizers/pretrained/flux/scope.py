"""Which weights of a FLUX transformer learn. The new condition columns always do; the rest is one of three parts.

transformer -scope-> the same transformer with `requires_grad` set (and adapters added)
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from ...config import Config


class Attention(Config):
    """Every parameter of an attention module, both streams and query-key norms: 2.511B of FLUX's 11.902B."""

    # PAPER GAP (docs/dcdd.md#trainable-set): "attention layers"; the single blocks' output projection is fused with
    # their MLP and stays frozen, which also lets plain data-parallel AdamW fit 80 GB (benchmarks/memory.py).

    kind: Literal["attention"] = "attention"

    def __call__(self, transformer: nn.Module) -> None:
        for name, parameter in transformer.named_parameters():
            parameter.requires_grad_(".attn." in name)


class LoRA(Config):
    """Low-rank adapters on the attention projections; needs the `lora` extra (peft)."""

    kind: Literal["lora"] = "lora"
    rank: int = 64
    alpha: float = 64

    def __call__(self, transformer: nn.Module) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        transformer.requires_grad_(False)
        targets = r".*\.attn\.(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|to_add_out)"
        inject_adapter_in_model(
            LoraConfig(r=self.rank, lora_alpha=int(self.alpha), target_modules=targets), transformer
        )


class Full(Config):
    """Everything learns, as it must when the transformer starts from scratch."""

    kind: Literal["full"] = "full"

    def __call__(self, transformer: nn.Module) -> None:
        transformer.requires_grad_(True)


Scope = Annotated[Attention | LoRA | Full, Field(discriminator="kind")]


def apply_scope(scope: Scope, transformer: nn.Module) -> None:
    """Freeze what the scope leaves out; keep what learns in fp32, so that small updates are not rounded away."""
    scope(transformer)
    for name, parameter in transformer.named_parameters():
        if name.startswith("x_embedder.condition."):
            parameter.requires_grad_(True)
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
