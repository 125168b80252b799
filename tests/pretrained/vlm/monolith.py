"""A Mixture-of-Transformers written out: one sequence of text and image tokens, two sets of weights, one attention.

The reference for the text cache; it shares no code with it but the rotary angles of transformers.
"""

from __future__ import annotations

import torch


def attention(text_layer, image_layer, text, image, angles, allowed):
    """One layer of joint attention; projections and norms by modality."""
    joined = {}
    for name in ("q", "k", "v"):
        rows = []
        for layer, states in ((text_layer, text), (image_layer, image)):
            x = getattr(layer.self_attn, f"{name}_proj")(layer.input_layernorm(states))
            rows.append(x.unflatten(-1, (-1, layer.self_attn.head_dim)).transpose(1, 2))
        joined[name] = torch.cat(rows, 2)
    cos, sin = (part.unsqueeze(1) for part in angles)
    for name in ("q", "k"):
        left, right = joined[name].chunk(2, -1)
        joined[name] = joined[name] * cos + torch.cat([-right, left], -1) * sin
    groups = joined["q"].shape[1] // joined["k"].shape[1]
    k, v = (joined[name].repeat_interleave(groups, 1) for name in ("k", "v"))
    scores = joined["q"] @ k.mT / k.shape[-1] ** 0.5
    mixed = scores.masked_fill(~allowed[:, None], float("-inf")).softmax(-1) @ v
    return mixed.transpose(1, 2).flatten(2).split([text.shape[1], image.shape[1]], 1)


def hidden_states(text_model, image_model, ids, lengths, image):
    """Image states after the last norm, of right-padded texts."""
    text = text_model.embed_tokens(ids)
    m, n = text.shape[1], image.shape[1]
    positions = torch.cat([torch.arange(m).expand(len(ids), -1), lengths[:, None] + torch.arange(n)], 1)
    angles = text_model.rotary_emb(torch.cat([text, image], 1), positions)
    column, row = torch.arange(m + n)[None], torch.arange(m + n)[:, None]
    real = (column < lengths[:, None, None]) | (column >= m)
    allowed = ((column <= row) | (row >= m)) & real | (column == row)
    for text_layer, image_layer in zip(text_model.layers, image_model.layers):
        by_text, by_image = attention(text_layer, image_layer, text, image, angles, allowed)
        text, image = (
            states + layer.self_attn.o_proj(by)
            for layer, states, by in ((text_layer, text, by_text), (image_layer, image, by_image))
        )
        text, image = (
            states + layer.mlp(layer.post_attention_layernorm(states))
            for layer, states in ((text_layer, text), (image_layer, image))
        )
    return image_model.norm(image)
