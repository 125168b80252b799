"""A frozen language model's keys and values of a text, read by a second model that computes image tokens.

Text tokens never attend to image tokens, and their model is frozen. So a Mixture-of-Transformers (arXiv 2411.04996) for
text to image is exactly this: the frozen model reads the text once, and a copy of it with weights of its own runs on
the image tokens, which attend to each other and to the text's keys and values, with no causal mask.

ids [b m] -language model, once-> TextCache ; image embeddings [b n d], TextCache -copy-> hidden states [b n d]
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer


@dataclass(frozen=True)
class TextCache:
    """Keys and values of texts, one tensor a layer, padded on the right; nothing ever writes to them."""

    keys: tuple[Float[Tensor, "b heads m d"], ...]
    values: tuple[Float[Tensor, "b heads m d"], ...]
    lengths: Int[Tensor, "b"]

    @classmethod
    @torch.no_grad()
    def read(cls, language_model: nn.Module, ids: Int[Tensor, "b m"], lengths: Int[Tensor, "b"]) -> Self:
        """Run the frozen model over texts, of which each row has its length.

        Padding comes last, so no token of a text attends to it.
        """
        cache, visible = DynamicCache(), torch.arange(ids.shape[1], device=ids.device) < lengths.to(ids.device)[:, None]
        language_model(ids, attention_mask=visible.long(), use_cache=True, **{cache_argument(language_model): cache})
        layers: Any = cache.layers
        return cls(tuple(layer.keys for layer in layers), tuple(layer.values for layer in layers), lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, rows: slice) -> TextCache:
        return TextCache(tuple(k[rows] for k in self.keys), tuple(v[rows] for v in self.values), self.lengths[rows])

    def expanded(self, count: int) -> TextCache:
        """One text for `count` images, without copies.

        Raises:
            ValueError: it holds several texts.
        """
        if len(self) != 1:
            raise ValueError(f"one text can be shared by many images, {len(self)} cannot")
        shared = [tuple(x.expand(count, -1, -1, -1) for x in side) for side in (self.keys, self.values)]
        return TextCache(shared[0], shared[1], self.lengths.expand(count))

    def visible(self, images: int) -> Bool[Tensor, "b m+n"] | None:
        """What image tokens attend to; None when that is everything, which is faster."""
        longest = self.keys[0].shape[-2]
        if bool((self.lengths == longest).all()):
            return None
        column = torch.arange(longest + images, device=self.keys[0].device)
        return (column < self.lengths.to(column.device)[:, None]) | (column >= longest)

    def cache(self) -> Cache:
        """The same as transformers reads it."""
        cache: Any = DynamicCache()
        cache.layers = [ReadOnlyLayer.of(keys, values) for keys, values in zip(self.keys, self.values)]
        return cache


class ReadOnlyLayer(DynamicLayer):
    """A cache layer that stays what it is: new keys and values are appended for the call alone."""

    keys: Tensor
    values: Tensor

    @classmethod
    def of(cls, keys: Tensor, values: Tensor) -> Self:
        layer = cls()
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys.detach(), values.detach()
        return layer

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return torch.cat([self.keys.to(key_states.dtype), key_states], -2), torch.cat(
            [self.values.to(value_states.dtype), value_states], -2
        )


def trainable_copy(language_model: nn.Module) -> nn.Module:
    """A deep copy in fp32, config included, without word embeddings: its inputs are embeddings already.

    Raises:
        ValueError: some of its layers do not attend to everything, which image tokens must.
    """
    config: Any = language_model.config
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        raise ValueError(
            f"image tokens need layers of full attention; this language model has {', '.join(sorted(kinds))}"
        )
    embeddings = language_model.get_input_embeddings()  # pyright: ignore[reportCallIssue]
    twin = copy.deepcopy(language_model, {id(embeddings): None}).float().requires_grad_(True)
    layers: Any = twin.layers
    for layer in layers:
        # Otherwise gradient checkpointing takes the cache away, and the text with it, without an error.
        layer._can_checkpoint_with_cache = True
    return twin


def image_states(
    twin: nn.Module, embeddings: Float[Tensor, "b n d"], text: TextCache, layer: int | None = None
) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n d"]]:
    """Hidden states of image tokens after the last norm, and after the layer of a number (of the last when None).

    Image tokens stand behind their row's own text, in raster order.
    """
    count = embeddings.shape[1]
    positions = text.lengths.to(embeddings.device)[:, None] + torch.arange(count, device=embeddings.device)
    visible = text.visible(count)
    output: Any = twin(
        inputs_embeds=embeddings,
        attention_mask=None if visible is None else visible.to(embeddings.device).long(),
        position_ids=positions,
        is_causal=False,  # of the model's call: without it the masks are silently causal
        use_cache=False,
        output_hidden_states=layer is not None,
        **{cache_argument(twin): text.cache()},
    )
    last = output.last_hidden_state
    return last, last if layer is None else output.hidden_states[layer]


def cache_argument(language_model: nn.Module) -> str:
    """What the cache is called: `past_key_values` is renamed to `cache` in transformers 5.24 and gone in 5.40."""
    return "cache" if "cache" in inspect.signature(language_model.forward).parameters else "past_key_values"


def padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Int[Tensor, "b m"], Int[Tensor, "b"]]:
    """Token ids as one tensor, padded on the right, and the length of each row."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows], dtype=torch.long)
    return ids, torch.tensor([len(row) for row in rows])
