"""The token loop: a frozen Llama draws an image token by token, and every distribution on the way can be observed.

Transformers' image generation never shows the guided distribution (spec 2.3), and rebuilds masks and caches at each
step. This loop hands the guided fp32 logits to observers and keeps only what comes back, so `[n v]` never exists.
Guidance acts before the last linear layer: that layer is affine, hence `W(u + w(c - u)) + a` equals guiding the logits
themselves, and the largest matrix of the head is multiplied once per item instead of twice.

prefix [cond; uncond] -blocks-> hidden -lift, guide, project-> logits [b v] -observers-> kept by name
                                                               logits -draw-> ids [b] -embed-> next column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ...nn.sampling import draw
from ...protocols import Observe
from .llama_blocks import Angles, KVCache, LlamaBlocks

CHUNK_ROWS = 1024
"""Rows of logits that `observe_given` has in memory at a time."""
WAITING = 65_536
"""Bytes of logits an item may have waiting to be observed together."""
COLUMNS = 16
"""A compiled loop's KV cache is a multiple of this long: prompts of about one length share a graph, and fast attention
kernels want masks whose rows start at aligned addresses."""


@dataclass(frozen=True)
class Prefix:
    """What stands before the first image token. Rows are [cond; uncond], or cond alone when nothing is guided."""

    embeddings: Float[Tensor, "r l h"]
    visible: Bool[Tensor, "r l"]
    """False at padding."""

    def widened(self, width: int) -> Prefix:
        """Padded on the left to at least so many columns."""
        missing = width - self.visible.shape[1]
        if missing <= 0:
            return self
        return Prefix(F.pad(self.embeddings, (0, 0, missing, 0)), F.pad(self.visible, (missing, 0)))


@dataclass(frozen=True)
class TokenParts:
    """What differs between the VLMs that share the loop."""

    blocks: LlamaBlocks
    angles: Callable[[int], Angles]
    """Rotary angles of the first so many positions."""
    embed: Callable[[Int[Tensor, "..."]], Float[Tensor, "... h"]]
    """Image tokens as inputs of the Llama."""
    lift: Callable[[Float[Tensor, "... h"]], Float[Tensor, "... m"]]
    """The head up to its last linear layer."""
    project: nn.Linear
    """The last linear layer of the head, to one logit per code."""


def guide(both: Float[Tensor, "r *m"], branches: int, guidance: float | Tensor) -> Float[Tensor, "b *m"]:
    """Classifier-free guidance `u + w (c - u)` on rows [cond; uncond]; one branch passes through."""
    if branches == 1:
        return both
    cond, uncond = both.chunk(2)
    return torch.lerp(uncond, cond, guidance)


class Observations:
    """Calls observers with the logits of a few steps at once: on small codebooks they cost calls, not arithmetic.

    At most `WAITING` bytes an item wait, so at 16,384 codes every step is observed by itself.
    """

    def __init__(self, observe: Mapping[str, Observe], num_codes: int) -> None:
        self.observe, self.steps = observe, max(1, WAITING // (4 * num_codes))
        self.waiting: list[tuple[Float[Tensor, "b v"], Int[Tensor, "b"]]] = []
        self.parts: dict[str, list[Float[Tensor, "b s o"]]] = {name: [] for name in observe}

    def add(self, logits: Float[Tensor, "b v"], sampled: Int[Tensor, "b"]) -> None:
        """Take in one step."""
        self.waiting.append((logits, sampled))
        if len(self.waiting) == self.steps:
            self._observe()

    def stacked(self) -> dict[str, Float[Tensor, "b n o"]]:
        """All that each observer returned, step by step; nothing is added after it."""
        if self.waiting:
            self._observe()
        return {name: torch.cat(parts, 1) for name, parts in self.parts.items()}

    def _observe(self) -> None:
        batch = len(self.waiting[0][1])
        logits, sampled = (torch.cat(column) for column in zip(*self.waiting))
        self.waiting.clear()
        for name, observe in self.observe.items():
            self.parts[name].append(observe(logits, sampled).unflatten(0, (-1, batch)).transpose(0, 1))


class TokenLoop:
    """Sample image tokens, or observe the distributions of given ones.

    `compiler` wraps the decode step on CUDA, e.g. `step_graphs.recorded` or `step_graphs.fused`; with one, every step
    has the same shapes and one graph serves the whole image.
    """

    def __init__(self, parts: TokenParts, num_tokens: int, compiler: Callable | None = None) -> None:
        self.parts = parts
        self.num_tokens = num_tokens
        self.compiled = compiler(self.static_step) if compiler else None
        self._kept: KVCache | None = None
        self._wanted: tuple = ()

    @torch.no_grad()
    def sample(
        self,
        prefix: Prefix,
        u: Float[Tensor, "b n"] | None,
        *,
        branches: int,
        guidance: float,
        temperature: float = 1.0,
        top_k: int = 0,
        observe: Mapping[str, Observe] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> tuple[Int[Tensor, "b n"], dict[str, Float[Tensor, "b n o"]]]:
        """Draw one image's tokens per item.

        Args:
            prefix: `branches` rows per item.
            u: the uniform numbers that decide the tokens; None draws the most likely token each time.
            observe: each is called with rows of guided logits divided by the temperature, before any top-k, and the
                sampled tokens; a row is one item at one step, and small codebooks' steps come several at a time.
            progress: called with the number of tokens done so far.

        Returns:
            Tokens in raster order, and what every observer returned, stacked.
        """
        self.parts.blocks.refresh()
        # Inference mode saves each of a step's ~300 calls some bookkeeping; what leaves the loop are normal tensors.
        quick = torch.inference_mode if self.compiled is None else torch.no_grad
        x, start = prefix.embeddings, prefix.embeddings.shape[1]
        length, device = start + self.num_tokens, x.device
        if self.compiled is not None:
            length = -(-length // COLUMNS) * COLUMNS
        angles, places = self.parts.angles(length), torch.arange(length, device=device)
        padded = not bool(prefix.visible.all())
        seen = torch.cat([prefix.visible, prefix.visible.new_ones(x.shape[0], length - start)], 1)[:, None, None]
        u = None if u is None else u.to(device)
        scale = torch.tensor(guidance, device=device)

        with quick():
            cache = self._cache(x.shape[0], length)
            hidden = self.parts.blocks(
                x,
                angles.at(places[:start]),
                mask=prefix_mask(prefix.visible),
                cache=cache,
                positions=places[:start],
                span=start,
            )
            logits = self.logits(hidden[:, -1], branches, scale)
        ids, observations = [], Observations(observe, logits.shape[-1]) if observe else None
        for step in range(self.num_tokens):
            scaled = logits / temperature
            drawn = scaled.argmax(-1) if u is None else draw(scaled, u[:, step], top_k)
            if step in (0, self.num_tokens - 1):
                self._check_finite(scaled)
            ids.append(drawn)
            if observations is not None:
                observations.add(scaled, drawn)
            if progress is not None:
                progress(step + 1)
            if step + 1 == self.num_tokens:
                break
            here = places[start + step : start + step + 1]
            with quick():
                if self.compiled is not None:
                    logits = self.compiled(drawn, here, angles, cache, seen, scale, branches).clone()
                else:
                    span = start + step + 1
                    mask = seen[..., :span] if padded else None
                    logits = self.step(drawn, here, angles.at(here), cache, span, mask, scale, branches)
        return torch.stack(ids, 1), {} if observations is None else observations.stacked()

    @torch.no_grad()
    def observe_given(
        self,
        prefix: Prefix,
        ids: Int[Tensor, "b n"],
        *,
        branches: int,
        guidance: float,
        temperature: float = 1.0,
        observe: Mapping[str, Observe],
    ) -> dict[str, Float[Tensor, "b n o"]]:
        """Observe the guided distributions of given tokens in one parallel pass, chunk by chunk."""
        self.parts.blocks.refresh()
        known = self.parts.embed(ids[:, :-1]).repeat(branches, 1, 1)
        x = torch.cat([prefix.embeddings, known.to(prefix.embeddings.dtype)], 1)
        seen = torch.cat([prefix.visible, prefix.visible.new_ones(known.shape[:2])], 1)
        places = torch.arange(x.shape[1], device=x.device)
        hidden = self.parts.blocks(x, self.parts.angles(x.shape[1]).at(places), mask=prefix_mask(seen))
        guided = guide(self.parts.lift(hidden[:, -ids.shape[1] :]), branches, guidance).flatten(0, 1)
        kept: dict[str, list[Tensor]] = {name: [] for name in observe}
        for rows, tokens in zip(guided.split(CHUNK_ROWS), ids.flatten().split(CHUNK_ROWS), strict=True):
            logits = self.parts.project(rows) / temperature
            self._check_finite(logits)
            for name, one in observe.items():
                kept[name].append(one(logits, tokens))
        return {name: torch.cat(parts).unflatten(0, ids.shape) for name, parts in kept.items()}

    def step(
        self, ids: Tensor, here: Tensor, angles: Angles, cache: KVCache, span: int, mask: Tensor | None,
        guidance: Tensor, branches: int,
    ) -> Float[Tensor, "b v"]:  # fmt: skip
        """Feed one token per item and return the guided logits of the next."""
        x = self.parts.embed(ids)
        x = (x if branches == 1 else torch.cat([x] * branches))[:, None]
        hidden = self.parts.blocks(x, angles, mask=mask, cache=cache, positions=here, span=span)
        return self.logits(hidden[:, -1], branches, guidance)

    def static_step(
        self, ids: Tensor, here: Tensor, angles: Angles, cache: KVCache, seen: Tensor, guidance: Tensor, branches: int
    ) -> Float[Tensor, "b v"]:
        """`step` over the whole cache, unwritten columns masked: equal shapes at every step, hence one graph."""
        open_ = seen & (torch.arange(cache.length, device=seen.device) <= here)
        # Added once here; as booleans every layer would turn them into numbers again.
        mask = torch.zeros_like(open_, dtype=cache.tensor.dtype).masked_fill_(~open_, float("-inf"))
        return self.step(ids, here, angles.at(here), cache, cache.length, mask, guidance, branches)

    def logits(self, hidden: Float[Tensor, "r h"], branches: int, guidance: Tensor) -> Float[Tensor, "b v"]:
        return self.parts.project(guide(self.parts.lift(hidden), branches, guidance))

    def _cache(self, rows: int, length: int) -> KVCache:
        """Compiled graphs remember addresses, so their cache is reused for as long as its shape fits."""
        if self.compiled is None:
            return self.parts.blocks.cache(rows, length)
        like = self.parts.blocks.weight
        wanted = (rows, length, like.data_ptr(), like.dtype)
        if self._kept is None or self._wanted != wanted:
            self._kept, self._wanted = self.parts.blocks.cache(rows, length), wanted
            torch._dynamo.mark_static_address(self._kept.tensor)
        return self._kept

    def _check_finite(self, logits: Tensor) -> None:
        if not bool(torch.isfinite(logits).all()):
            dtype = str(self.parts.blocks.weight.dtype).removeprefix("torch.")
            raise ValueError(
                f"the VLM's logits are not finite in {dtype}: its weights are damaged, or {dtype} overflows; "
                "load it with dtype=torch.float32 (or bfloat16 on a GPU)"
            )


def prefix_mask(visible: Bool[Tensor, "r s"]) -> Bool[Tensor, "r 1 s s"] | None:
    """Causal, padding hidden, the diagonal open (a row that may look nowhere is NaN); None when causal says it all."""
    if bool(visible.all()):
        return None
    length = visible.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=visible.device).tril()
    return ((causal & visible[:, None]) | torch.eye(length, dtype=torch.bool, device=visible.device))[:, None]
