"""GPU memory of training FLUX.1-Fill's shape, counted from its parameters: computed, not measured.

    python benchmarks/memory.py

Between two steps there are the frozen weights in bf16 and, of what learns, weights, gradients and AdamW's moments in
fp32. On top of it comes the forward pass (bf16 copies of the learning weights, which autocast keeps until it ends, and
activations) or else the optimiser step. Gradients are views of DDP's buckets and AdamW is fused (training/processes.py,
training/loop.py); otherwise buckets are a second copy of the gradients, and AdamW's square roots one of the weights.

scope -parameters on the meta device-> how many learn and how many do not -> GB by what they are for, one JSON row each
"""

from __future__ import annotations

import torch
from row import report

from detokenizers.pretrained.flux.scope import Attention, Full, LoRA, Scope, apply_scope
from detokenizers.pretrained.flux.transformer import FluxConfig, FluxDecoder

CONDITION = 272
"""Condition channels a token at full size."""
SCOPES: dict[str, Scope] = {"attention": Attention(), "lora": LoRA(), "full": Full()}
BLOCKS = ("FluxTransformerBlock", "FluxSingleTransformerBlock")


def counted(scope: Scope) -> tuple[int, int, int]:
    """Parameters that learn and that do not, and those of the largest block."""
    with torch.device("meta"):
        net: FluxDecoder = FluxConfig().build(CONDITION, lambda images: images)
        apply_scope(scope, net.transformer)
    learn = sum(weight.numel() for weight in net.parameters() if weight.requires_grad)
    blocks = [part for part in net.modules() if type(part).__name__ in BLOCKS]
    largest = max(sum(weight.numel() for weight in block.parameters()) for block in blocks)
    return learn, sum(weight.numel() for weight in net.parameters()) - learn, largest


def whole(learn: int, frozen: int) -> dict[str, float]:
    """GB on every GPU where each has all weights."""
    between = gb(2 * frozen) + gb((4 + 4 + 8) * learn)
    return {
        "between_steps_gb": between,
        "bf16_copies_gb": gb(2 * learn),
        "before_activations_gb": between + gb(2 * learn),
        "step_with_separate_buckets_and_foreach_gb": between + gb((4 + 4) * learn),
    }


def sharded(learn: int, frozen: int, largest: int) -> dict[str, float]:
    """GB over all GPUs together, and on each: two gathered blocks in bf16, one block's gradients in bf16 and fp32."""
    return {"over_all_gb": gb(2 * frozen) + gb(16 * learn), "on_each_gb": gb((2 * 2 + 2 + 4) * largest)}


def gb(numbers: int) -> float:
    return numbers / 1e9


def main() -> None:
    for name, scope in SCOPES.items():
        learn, frozen, largest = counted(scope)
        found = whole(learn, frozen) | sharded(learn, frozen, largest)
        row = {"benchmark": "memory", "computed": True, "scope": name, "learning": learn, "frozen": frozen}
        report(row, {key: round(value, 1) for key, value in found.items()})


if __name__ == "__main__":
    main()
