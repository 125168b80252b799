"""The blocks of a transformers `LlamaModel`, run without the machinery around them.

`LlamaModel.forward` builds masks, positions and cache objects at every call; a token loop calls it hundreds of times
for one column each. Here the same modules are read directly: rotary angles and memory are prepared once, a step is
arithmetic only. Results agree with `LlamaModel` to rounding (tests/pretrained/test_janus.py).

x [r q h] -> RMSNorm -> q, k, v -> rotate -> memory -> attention -> SwiGLU -> ... -> last hidden state [r q h].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import LlamaModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm


class Angles(NamedTuple):
    """Rotary factors per position, half-split: `x * cos + roll(x) * sin`, the sign of the roll folded into `sin`."""

    cos: Float[Tensor, "q w"]
    sin: Float[Tensor, "q w"]

    @classmethod
    def of(cls, cos: Float[Tensor, "q w"], sin: Float[Tensor, "q w"]) -> Self:
        """Fold the sign of transformers' `rotate_half` into the sines."""
        half = sin.shape[-1] // 2
        return cls(cos, torch.cat([-sin[:, :half], sin[:, half:]], -1))

    def at(self, places: Int[Tensor, "q"]) -> Angles:
        return Angles(self.cos[places], self.sin[places])

    def rotate(self, x: Float[Tensor, "r heads q w"]) -> Float[Tensor, "r heads q w"]:
        return torch.addcmul(x * self.cos, x.roll(x.shape[-1] // 2, -1), self.sin)


@dataclass
class Memory:
    """Keys and values of every layer, allocated once: `[rows heads length width]`."""

    keys: list[Tensor]
    values: list[Tensor]

    @property
    def length(self) -> int:
        return self.keys[0].shape[2]

    def keep(self, layer: int, k: Tensor, v: Tensor, places: Tensor, span: int) -> tuple[Tensor, Tensor]:
        """Write `k` and `v` at `places`; return everything known up to `span`."""
        keys, values = self.keys[layer], self.values[layer]
        keys.index_copy_(2, places, k)
        values.index_copy_(2, places, v)
        return (keys, values) if span == keys.shape[2] else (keys[:, :, :span], values[:, :, :span])


class _Norm:
    """RMSNorm in as few calls as there are: a decode step norms a handful of rows, so calls are what it costs."""

    def __init__(self, norm: LlamaRMSNorm) -> None:
        self.norm = norm
        self.floor = torch.tensor(norm.variance_epsilon**0.5)

    def __call__(self, x: Float[Tensor, "r h"]) -> Float[Tensor, "r h"]:
        if x.is_cuda:
            return F.rms_norm(x, x.shape[-1:], self.norm.weight, self.norm.variance_epsilon)
        wide = x.float()
        # sqrt(mean(x^2) + eps) is the hypotenuse over |x| / sqrt(h) and sqrt(eps).
        size = torch.linalg.vector_norm(wide, 2, -1, True).mul_(x.shape[-1] ** -0.5).hypot_(self.floor)
        return self.norm.weight * (wide / size).to(x.dtype)


class _Layer(NamedTuple):
    """One block's own modules, looked up once: attribute chains through `nn.Module` are not free."""

    before_attention: _Norm
    q: nn.Linear
    k: nn.Linear
    v: nn.Linear
    o: nn.Linear
    before_mlp: _Norm
    gate: nn.Linear
    up: nn.Linear
    down: nn.Linear


class LlamaBlocks:
    """Run a frozen `LlamaModel` on embeddings; the model keeps its weights, this class only reads them."""

    def __init__(self, model: LlamaModel) -> None:
        config = model.config
        if config.hidden_act != "silu":
            raise ValueError(f"this Llama uses {config.hidden_act!r}; only SwiGLU ('silu') models can be run here")
        self.model = model
        self.layers = [_layer(block) for block in cast(list[LlamaDecoderLayer], list(model.layers))]
        self.norm = _Norm(model.norm)
        self.heads: int = config.num_attention_heads
        self.kv_heads: int = config.num_key_value_heads or config.num_attention_heads
        self.width: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads

    @property
    def weight(self) -> Tensor:
        """Any weight of the blocks: its device and dtype are theirs."""
        return self.model.norm.weight

    def angles(self, length: int) -> Angles:
        """The model's own rotary angles for positions 0 to `length` - 1."""
        places = torch.arange(length, device=self.weight.device)[None]
        cos, sin = self.model.rotary_emb(self.weight, places)
        return Angles.of(cos[0], sin[0])

    def memory(self, rows: int, length: int) -> Memory:
        """Fresh memory; zeros, because masked positions are still multiplied by zero weights."""
        shape, like = (rows, self.kv_heads, length, self.width), self.weight
        kept = [[torch.zeros(shape, device=like.device, dtype=like.dtype) for _ in self.layers] for _ in "kv"]
        return Memory(*kept)

    def __call__(
        self,
        x: Float[Tensor, "r q h"],
        angles: Angles,
        *,
        mask: Bool[Tensor, "r 1 q s"] | None = None,
        memory: Memory | None = None,
        places: Int[Tensor, "q"] | None = None,
        span: int = 0,
    ) -> Float[Tensor, "r q h"]:
        """Return the last hidden state, after the final norm.

        Args:
            x: embeddings of the new columns.
            angles: rotary factors of the new columns.
            mask: True where a query may look; None means causal among the new columns, everything before them visible.
            memory: where earlier columns are; None when `x` is the whole sequence.
            places: columns of the memory that `x` fills.
            span: length of the memory that is looked at.
        """
        rows, columns, _ = x.shape
        x = x.flatten(0, 1)
        for number, layer in enumerate(self.layers):
            y = layer.before_attention(x)
            q = angles.rotate(self._split(_linear(y, layer.q), rows, self.heads))
            k = angles.rotate(self._split(_linear(y, layer.k), rows, self.kv_heads))
            v = self._split(_linear(y, layer.v), rows, self.kv_heads)
            if memory is not None and places is not None:
                k, v = memory.keep(number, k, v, places, span)
            look = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=mask is None and columns > 1, enable_gqa=self.heads != self.kv_heads
            )
            x = x + _linear(look.transpose(1, 2).reshape(rows * columns, -1), layer.o)
            y = layer.before_mlp(x)
            x = x + _linear(F.silu(_linear(y, layer.gate)) * _linear(y, layer.up), layer.down)
        return self.norm(x).unflatten(0, (rows, columns))

    def _split(self, x: Tensor, rows: int, heads: int) -> Tensor:
        return x.view(rows, -1, heads, self.width).transpose(1, 2)


def _layer(block: LlamaDecoderLayer) -> _Layer:
    attention, mlp = block.self_attn, block.mlp
    linears = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
    linears = (*linears, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
    if odd := {type(linear).__name__ for linear in linears if type(linear) is not nn.Linear}:
        raise ValueError(f"this Llama has {', '.join(odd)} layers where Linear ones belong; merge its adapters first")
    q, k, v, o, gate, up, down = linears
    return _Layer(_Norm(block.input_layernorm), q, k, v, o, _Norm(block.post_attention_layernorm), gate, up, down)


def _linear(x: Tensor, layer: nn.Linear) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)
