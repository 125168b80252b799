"""One tiny random VLM of every family, in transformers' own classes."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PerceptionLMConfig,
    PerceptionLMForConditionalGeneration,
    Qwen2Config,
    SiglipVisionConfig,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

from ..tiny import tiny_janus

TEXT = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=40, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
TOWER: dict[str, Any] = dict(
    hidden_size=24, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=16, patch_size=4
)


def llava_onevision():
    """SigLIP features of the layer before the last norm, and a Qwen2."""
    return LlavaOnevisionForConditionalGeneration(
        LlavaOnevisionConfig(
            vision_config=SiglipVisionConfig(**TOWER, vision_use_head=False),
            text_config=Qwen2Config(**TEXT),
            image_grid_pinpoints=[[16, 16]],
        )
    )


def llava():
    """CLIP features of the layer before the last, without the class token."""
    return LlavaForConditionalGeneration(
        LlavaConfig(vision_config=CLIPVisionConfig(**TOWER, projection_dim=24), text_config=LlamaConfig(**TEXT))
    )


def smolvlm():
    """SigLIP features before the pixel shuffle of the connector."""
    return SmolVLMForConditionalGeneration(
        SmolVLMConfig(vision_config=dict(TOWER), text_config=LlamaConfig(**TEXT), scale_factor=2)
    )


def perception_lm(image_size: int = 16, **text: Any):
    """With a CLIP tower in the place of timm's, which is an extra: what is dropped and pooled is the same code."""
    sides = {"image_size": image_size, "patch_size": image_size // 4}
    tower = CLIPVisionConfig(**TOWER | sides, projection_dim=24, model_args={"embed_dim": 24})
    return PerceptionLMForConditionalGeneration(
        PerceptionLMConfig(
            vision_config=tower,
            text_config=LlamaConfig(**TEXT | text),
            vision_use_cls_token=True,
            projector_pooling_ratio=2,
        )
    )


FAMILIES = {
    "janus": tiny_janus,
    "llava_onevision": llava_onevision,
    "llava": llava,
    "smolvlm": smolvlm,
    "perception_lm": perception_lm,
}


def tiny_model(family: str):
    """Random weights, large enough for tokens to differ."""
    torch.manual_seed(0)
    model = FAMILIES[family]().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return model


def spell(prompt: str) -> list[int]:
    """BOS and one id a word."""
    return [1, *(3 + len(word) for word in prompt.split())]
