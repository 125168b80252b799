"""Tiny random models for tests: the real classes, the real parameter names, milliseconds a call."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn
from transformers import JanusForConditionalGeneration, PreTrainedTokenizerFast

from detokenizers.pretrained.vlm.janus import JanusSize, JanusVLM, build_janus
from detokenizers.pretrained.vlm.word_tokenizer import word_tokenizer

Net = TypeVar("Net", bound=nn.Module)
WORDS = ["a", "an", "the", "red", "green", "apple", "dog", "cat", "wooden", "table", "two", "and", "on", "ice-cream"]
CHAT = (
    "{{ bos_token }}{% for message in messages %}the {% for part in message['content'] %}{{ part['text'] }}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %} on{% endif %}"
)
"""A chat template in known words: a user turn is `the PROMPT`, the answer starts after `on`."""

TINY = JanusSize(
    hidden=32, layers=2, heads=2, vocabulary=32, max_positions=128,
    image_size=16, grid=4, codebook=64, vq_channels=32, vq_multipliers=(1, 1, 1), vq_blocks=1, vq_latent=32,
    vision_hidden=32, vision_layers=1, vision_heads=2,
)  # fmt: skip


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    return word_tokenizer(WORDS)


def tiny_janus(size: JanusSize = TINY, seed: int = 0) -> JanusForConditionalGeneration:
    """A Janus whose weights are large enough for its distributions to differ from uniform."""
    torch.manual_seed(seed)
    model = build_janus(size, tiny_tokenizer()).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and "vision_model" not in name:
                weight.normal_(0, 1.5 * weight.shape[1] ** -0.5)
    return model


def tiny_vlm(size: JanusSize = TINY, seed: int = 0) -> JanusVLM:
    return JanusVLM(tiny_janus(size, seed), tiny_tokenizer())


def spread_norms(net: Net) -> Net:
    """A random net whose norms have weights and biases, as trained ones do: at 1 and 0 a flat picture is flat for all
    layers, and even contiguous fp32 is noise."""
    torch.manual_seed(0)
    for norm in net.modules():
        if isinstance(norm, nn.GroupNorm):
            nn.init.normal_(norm.weight, 1, 0.3)
            nn.init.normal_(norm.bias, 0, 0.3)
    return net


SOFTMAX = {"p": lambda logits, ids: logits.softmax(-1)}
"""An observer that keeps the whole distribution (only tests can afford that)."""
LOGITS = {"logits": lambda logits, ids: logits.clone()}
