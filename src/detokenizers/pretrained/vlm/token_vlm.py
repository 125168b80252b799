"""What the frozen VLMs that draw token by token have in common: batches, seeds, guidance, observers.

prompts -prefix (the VLM's own)-> [cond; uncond] -token loop-> VisualTokens(ids, observed).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Int
from torch import Tensor, nn

from ...checkpoint import weights_fingerprint
from ...nn.sampling import uniforms
from ...protocols import Observe, VisualTokens
from ..vq import JanusVQ
from .token_loop import Prefix, TokenLoop


class LlamaTokenVLM(nn.Module, ABC):
    """A `TokenVLM` around a `TokenLoop`; a VLM of this kind adds how its prompts become a prefix."""

    tokenizer: JanusVQ
    loop: TokenLoop
    guidance: float = 5.0
    """The guidance weight it draws with unless a caller gives another."""
    top_k: int = 0
    """How many of the likeliest codes it draws from unless a caller gives another number; 0 is all of them."""

    @abstractmethod
    def columns(self, prompt: str) -> int:
        """Columns of the prefix of one prompt, without padding."""

    @abstractmethod
    def prefix(self, prompts: Sequence[str], branches: int) -> Prefix:
        """Embed prompts: b rows, then with two branches b unconditional rows."""

    def check(self, prompts: Sequence[str]) -> None:
        """Refuse prompts that this VLM cannot read. `generate` begins with it; before many calls it is worth one.

        Raises:
            ValueError: a prompt has unknown words, or is too long for its picture to follow.
        """
        room = self.loop.parts.blocks.positions - self.loop.num_tokens
        for prompt in dict.fromkeys(prompts):
            if (taken := self.prefix([prompt], 1).embeddings.shape[1]) > room:
                raise ValueError(
                    f"the prompt {prompt[:50]!r}... takes {taken} positions and its picture {self.loop.num_tokens}, "
                    f"but this VLM has {room + self.loop.num_tokens}; use fewer words"
                )

    def branches(self, guidance: float) -> int:
        """Rows an item: at w = 1 guidance returns the conditional logits, so the unconditional half need not run."""
        return 1 if guidance == 1.0 else 2

    @property
    def device(self) -> torch.device:
        return self.loop.parts.blocks.weight.device

    def generate(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        guidance: float | None = None,
        temperature: float = 1.0,
        observe: Mapping[str, Observe] | None = None,
        greedy: bool = False,
        top_k: int | None = None,
        batch_size: int = 16,
        width: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> VisualTokens:
        """Draw image tokens from prompts; an item depends on its prompt and its seed, not on its batch.

        Args:
            prompts: one per image.
            seeds: one per image.
            guidance: classifier-free guidance weight w in `u + w (c - u)`, the VLM's own unless given; 1 drops the
                unconditional half, and for LlamaGen anything below it too.
            temperature: divides the guided logits.
            observe: by name, called with guided, tempered, unfiltered fp32 logits `[b v]` and sampled tokens `[b]` at
                every step; what each returns is in `observed` under its name.
            greedy: take the most likely token instead of drawing.
            top_k: draw from the k most likely codes only, the VLM's own number unless given; 0 is all of them.
            batch_size: images drawn together.
            width: columns that prompts are padded to at least, from `width(all prompts of a larger request)`; in
                batches of one size, what is observed of an item then is the same to the bit in any company.
            progress: called with tokens done and tokens to do.

        Raises:
            ValueError: a prompt that `check` refuses, seeds that do not match the prompts, logits that are not finite.
        """
        guidance = self.guidance if guidance is None else guidance
        _check_request(prompts, len(seeds), "seeds", guidance, temperature)
        self.check(prompts)
        branches, steps = self.branches(guidance), self.loop.num_tokens
        parts = []
        for first in range(0, len(prompts), batch_size):
            batch = prompts[first : first + batch_size]
            ids, observed = self.loop.sample(
                self.prefix(batch, branches).widened(width),
                None if greedy else uniforms(seeds[first : first + batch_size], steps),
                branches=branches,
                guidance=guidance,
                temperature=temperature,
                top_k=self.top_k if top_k is None else top_k,
                observe=observe,
                progress=_counted(progress, first * steps, len(batch), len(prompts) * steps),
            )
            parts.append(VisualTokens(ids, self.tokenizer.grid, observed))
        return VisualTokens.join(parts)

    def fingerprint(self) -> str:
        return weights_fingerprint(self.state_dict())

    def width(self, prompts: Sequence[str]) -> int:
        """Columns that every batch of these prompts is padded to: kernels round by shape, so all get one shape."""
        columns = {self.columns(prompt) for prompt in set(prompts)}
        # One more than the longest: a batch without any padding would go without a mask, by another kernel.
        return max(columns, default=0) + (len(columns) > 1)

    def teacher_forced(
        self,
        prompts: Sequence[str],
        ids: Int[Tensor, "b n"],
        *,
        observe: Mapping[str, Observe],
        guidance: float | None = None,
        temperature: float = 1.0,
    ) -> VisualTokens:
        """The VLM's distributions for real images: one parallel pass over the captions and the true tokens.

        Position i holds what observers returned for the guided distribution of token i, given the caption and the true
        tokens before it. Meant for moderate batches: the keys and values of all b sequences are in memory at once,
        the logits never are.
        """
        guidance = self.guidance if guidance is None else guidance
        _check_request(prompts, len(ids), "rows of token ids", guidance, temperature)
        self.check(prompts)
        if ids.shape[1] != self.loop.num_tokens:
            raise ValueError(f"{ids.shape[1]} tokens per image, but this VLM draws {self.loop.num_tokens}")
        branches = self.branches(guidance)
        ids = ids.to(self.device)
        observed = self.loop.observe_given(
            self.prefix(prompts, branches),
            ids,
            branches=branches,
            guidance=guidance,
            temperature=temperature,
            observe=observe,
        )
        return VisualTokens(ids, self.tokenizer.grid, observed)


def _check_request(prompts: Sequence[str], given: int, what: str, guidance: float, temperature: float) -> None:
    if isinstance(prompts, str):
        raise ValueError(f"prompts is the string {prompts!r}; pass a list of prompts")
    if not prompts:
        raise ValueError("there are no prompts to draw")
    if given != len(prompts):
        raise ValueError(f"{len(prompts)} prompts but {given} {what}; give one per prompt")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature is {temperature}; it must be a positive, finite number")
    if not abs(guidance) < float("inf"):
        raise ValueError(f"guidance is {guidance}; it must be a finite number, 1 for none")


def _counted(
    progress: Callable[[int, int], None] | None, before: int, items: int, total: int
) -> Callable[[int], None] | None:
    """Steps done in one batch -> tokens done of all."""
    return None if progress is None else lambda steps: progress(before + steps * items, total)
