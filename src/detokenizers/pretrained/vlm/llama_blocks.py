"""The blocks of a transformers `LlamaModel`, run without the machinery around them.

`LlamaModel.forward` builds masks, positions and cache objects at every call; a token loop calls it hundreds of times
for one column each. Here the same modules are read directly: rotary angles and KV cache are prepared once, a step is
arithmetic only. Results agree with `LlamaModel` to rounding (tests/pretrained/vlm/test_janus.py).

x [r q h] -> RMSNorm -> q, k, v -> rotate -> KV cache -> attention -> SwiGLU -> ... -> last hidden state [r q h].
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

FEW_ROWS = 4
"""Up to so many rows a CPU multiplies `W x` in columns faster than `x W` in rows, at equal sums up to rounding: BLAS
shares out its work along the other side. One image drawn with guidance has two."""


class Angles(NamedTuple):
    """Rotary factors per position, half-split: `x * cos + roll(x) * sin`, the sign of the roll folded into `sin`."""

    cos: Float[Tensor, "q w"]
    sin: Float[Tensor, "q w"]

    @classmethod
    def of(cls, cos: Float[Tensor, "q w"], sin: Float[Tensor, "q w"]) -> Self:
        """Fold the sign of transformers' `rotate_half` into the sines."""
        half = sin.shape[-1] // 2
        return cls(cos, torch.cat([-sin[:, :half], sin[:, half:]], -1))

    def at(self, positions: Int[Tensor, "q"]) -> Angles:
        return Angles(self.cos[positions], self.sin[positions])

    def rotate(self, x: Float[Tensor, "r heads q w"]) -> Float[Tensor, "r heads q w"]:
        return (x * self.cos).addcmul_(x.roll(x.shape[-1] // 2, -1), self.sin)


@dataclass(frozen=True)
class KVCache:
    """Keys of all layers, then values of all layers, allocated once."""

    tensor: Float[Tensor, "layers2 r heads s w"]

    @property
    def length(self) -> int:
        return self.tensor.shape[3]

    def upto(self, span: int) -> tuple[Tensor, ...]:
        """Views of the first `span` columns, layer by layer; writing to a view writes to the cache."""
        return (self.tensor if span == self.length else self.tensor[:, :, :, :span]).unbind()


class _Norm:
    """RMSNorm in as few calls as there are: a decode step norms a handful of rows, so calls are what it costs."""

    def __init__(self, norm: LlamaRMSNorm) -> None:
        self.weight, self.eps, self.width = norm.weight, norm.variance_epsilon, norm.weight.numel()
        self.floor = torch.tensor((self.width * self.eps) ** 0.5)
        self.refresh()

    def refresh(self) -> None:
        self.gain = self.weight.detach().float() * self.width**0.5

    def __call__(self, x: Float[Tensor, "r h"]) -> Float[Tensor, "r h"]:
        if x.is_cuda:
            return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)
        wide = x if x.dtype == torch.float32 else x.float()
        # sqrt(h (mean(x^2) + eps)) is the hypotenuse over |x| and sqrt(h eps); the gain holds the other sqrt(h).
        size = torch.linalg.vector_norm(wide, 2, -1, True).hypot_(self.floor)
        return (wide / size).mul_(self.gain).to(x.dtype)


class _Linear:
    """One linear layer, or several with one input multiplied as one; their weights then become views of one matrix.

    Values, names and identity of the parameters stay, and nothing is stored twice. `refresh` packs again after the
    model was moved or cast.
    """

    def __init__(self, *layers: nn.Linear) -> None:
        self.layers = layers
        self.weight = self._pack()
        self.refresh()

    def __call__(self, x: Float[Tensor, "r i"]) -> Float[Tensor, "r o"]:
        if not (self.on_cpu and 1 < len(x) <= FEW_ROWS):
            return F.linear(x, self.weight, self.bias)
        y = torch.mm(self.weight, x.t()).t().contiguous()
        return y if self.bias is None else y.add_(self.bias)

    def refresh(self) -> None:
        self.on_cpu = self.weight.device.type == "cpu" and self.weight.dtype == torch.float32
        address = self.weight.data_ptr()
        for layer in self.layers:
            if layer.weight.data_ptr() != address:
                self.weight = self._pack()
                break
            address += layer.weight.numel() * layer.weight.element_size()
        self.bias = self._biases()

    def _pack(self) -> Tensor:
        if len(self.layers) == 1:
            return self.layers[0].weight
        packed = nn.Parameter(torch.cat([layer.weight.data for layer in self.layers]), requires_grad=False)
        parts = packed.data.split([layer.out_features for layer in self.layers])
        for layer, part in zip(self.layers, parts, strict=True):
            layer.weight.data = part
        return packed

    def _biases(self) -> Tensor | None:
        biases = [layer.bias.data for layer in self.layers if layer.bias is not None]
        return torch.cat(biases) if biases else None


class _Layer(NamedTuple):
    """One block's own parts, looked up once: attribute chains through `nn.Module` are not free."""

    before_attention: _Norm
    qkv: _Linear
    o: _Linear
    before_mlp: _Norm
    gate: _Linear
    up: _Linear
    down: _Linear


class LlamaBlocks:
    """Run a frozen `LlamaModel` on embeddings; the weights stay the model's own, with q, k and v laid side by side."""

    def __init__(self, model: LlamaModel) -> None:
        config = model.config
        if config.hidden_act != "silu":
            raise ValueError(f"this Llama uses {config.hidden_act!r}; only SwiGLU ('silu') models can be run here")
        self.model = model
        self.layers = [_layer(block) for block in cast(list[LlamaDecoderLayer], list(model.layers))]
        self.norm = _Norm(model.norm)
        self.positions: int = config.max_position_embeddings
        self.heads: int = config.num_attention_heads
        self.kv_heads: int = config.num_key_value_heads or config.num_attention_heads
        self.width: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads

    @property
    def weight(self) -> Tensor:
        """Any weight of the blocks: its device and dtype are theirs."""
        return self.model.norm.weight

    def refresh(self) -> None:
        """Follow the model if it was moved, cast or changed; called once an image, cheap when nothing happened."""
        for part in (self.norm, *(part for layer in self.layers for part in layer)):
            part.refresh()

    def angles(self, length: int) -> Angles:
        """The model's own rotary angles for positions 0 to `length` - 1."""
        positions = torch.arange(length, device=self.weight.device)[None]
        cos, sin = self.model.rotary_emb(self.weight, positions)
        return Angles.of(cos[0], sin[0])

    def cache(self, rows: int, length: int) -> KVCache:
        """An empty KV cache; zeros, because masked positions are still multiplied by zero weights."""
        return KVCache(self.weight.new_zeros(2 * len(self.layers), rows, self.kv_heads, length, self.width))

    def __call__(
        self,
        x: Float[Tensor, "r q h"],
        angles: Angles,
        *,
        mask: Bool[Tensor, "r 1 q s"] | Float[Tensor, "r 1 q s"] | None = None,
        cache: KVCache | None = None,
        positions: Int[Tensor, "q"] | None = None,
        span: int = 0,
    ) -> Float[Tensor, "r q h"]:
        """Return the last hidden state, after the final norm.

        Args:
            x: embeddings of the new columns.
            angles: rotary factors of the new columns.
            mask: True where a query may attend (or numbers to add); None means causal among the new columns, everything
                before them visible.
            cache: where earlier columns are; None when `x` is the whole sequence.
            positions: columns of the cache that `x` fills.
            span: columns of the cache that are attended to.
        """
        rows, columns, _ = x.shape
        heads, kv_heads = self.heads, self.kv_heads
        x = x.flatten(0, 1)
        seen = cache.upto(span) if cache is not None else ()
        for number, layer in enumerate(self.layers):
            y = layer.before_attention(x)
            qk, v = self._split(layer.qkv(y), rows, columns).split((heads + kv_heads, kv_heads), 1)
            q, k = angles.rotate(qk).split((heads, kv_heads), 1)
            if positions is not None:
                k = seen[number].index_copy_(2, positions, k)
                v = seen[len(self.layers) + number].index_copy_(2, positions, v)
            mixed = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=mask is None and columns > 1, enable_gqa=heads != kv_heads
            )
            x = layer.o((mixed if columns == 1 else mixed.transpose(1, 2)).reshape(rows * columns, -1)).add_(x)
            y = layer.before_mlp(x)
            x = layer.down(F.silu(layer.gate(y), inplace=True).mul_(layer.up(y))).add_(x)
        return self.norm(x).unflatten(0, (rows, columns))

    def _split(self, x: Tensor, rows: int, columns: int) -> Tensor:
        heads = x.view(rows, columns, -1, self.width)
        return heads.view(rows, -1, 1, self.width) if columns == 1 else heads.transpose(1, 2)


def _layer(block: LlamaDecoderLayer) -> _Layer:
    attention, mlp = block.self_attn, block.mlp
    linears = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
    linears = (*linears, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
    if odd := {type(linear).__name__ for linear in linears if type(linear) is not nn.Linear}:
        raise ValueError(f"this Llama has {', '.join(odd)} layers where Linear ones belong; merge its adapters first")
    q, k, v, *others = linears
    o, gate, up, down = map(_Linear, others)
    before_attention, before_mlp = _Norm(block.input_layernorm), _Norm(block.post_attention_layernorm)
    return _Layer(before_attention, _Linear(q, k, v), o, before_mlp, gate, up, down)
