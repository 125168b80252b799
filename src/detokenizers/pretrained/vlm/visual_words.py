"""A language model that writes images in visual words of its own vocabulary, as a `TokenVLM`.

Its token loop is the house's: only the visual rows of the head are multiplied, both sides of guidance run as one batch
over one KV cache, and an image is as long as its grid, whatever else the model finds likely. Its tokens are those of
transformers' `generate` with a mask on all other words (tests/pretrained/vlm/test_visual_words.py).

prompt -spelt-> [cond; uncond] -token loop over visual rows-> VisualTokens(ids, observed)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from detokenizers.checkpoint import fingerprint
from detokenizers.pretrained.vlm.language_models import load_language_model
from detokenizers.pretrained.vlm.llama_blocks import LlamaBlocks
from detokenizers.pretrained.vlm.prompt_formats import refuse_unknown_words
from detokenizers.pretrained.vlm.token_loop import Prefix, TokenLoop, TokenParts
from detokenizers.pretrained.vlm.token_vlm import LlamaTokenVLM
from detokenizers.pretrained.vlm.visual_vocabulary import VisualVocabulary, tables
from detokenizers.protocols import VisualTokenizer

VOCABULARY = "visual_vocabulary.yaml"
NEVER = -1e4
"""Added to the logit of a code that no image of the corpus has; finite, and its probability is zero."""


class VisualWordsVLM(LlamaTokenVLM):
    """A frozen `TokenVLM` over a causal language model with visual words.

    Args:
        model: a `Qwen2ForCausalLM`, `LlamaForCausalLM` or their like, grown by `grow`; frozen in place.
        words: its tokenizer.
        vocabulary: which of its rows are visual words.
        tokenizer: whose codes they are.
        used: codes that may be drawn; all if none are given.
        compile: wraps the step of the loop on CUDA.

    Raises:
        ValueError: model, vocabulary and tokenizer do not fit each other.
    """

    fp32 = ("project",)

    def __init__(
        self,
        model: PreTrainedModel,
        words: PreTrainedTokenizerBase,
        vocabulary: VisualVocabulary,
        tokenizer: VisualTokenizer,
        *,
        used: Bool[Tensor, "v"] | None = None,
        compile: Callable | None = None,
    ) -> None:
        super().__init__()
        entrance, leaving = tables(model)
        rows, codes = len(entrance), len(tokenizer.codebook)
        if rows < vocabulary.eoi + 1 or codes != vocabulary.codes:
            raise ValueError(
                f"visual words 0 to {vocabulary.codes - 1} from row {vocabulary.first} do not fit a model of {rows} "
                f"rows and a tokenizer of {codes} codes; were they trained for each other?"
            )
        self.model = model.eval().requires_grad_(False)
        self.words, self.vocabulary = words, vocabulary
        self.tokenizer = tokenizer  # pyright: ignore[reportAttributeAccessIssue]
        self.guidance = vocabulary.guidance
        body: Any = model.get_decoder()
        head = leaving[vocabulary.first : vocabulary.first + codes]
        # In fp32, since guidance multiplies rounding errors; a copy of the visual rows alone.
        self.project = nn.Linear(head.shape[1], codes, device=head.device)
        self.project.weight.data = head.detach().float().clone()
        self.project.bias.data = torch.zeros(codes, device=head.device)
        if used is not None:
            self.project.bias.data[~used.to(head.device)] = NEVER
        self.project.requires_grad_(False)
        blocks = LlamaBlocks(body)
        parts = TokenParts(blocks, blocks.angles, self._embed, lambda hidden: hidden.float(), self.project)
        self.loop = TokenLoop(parts, tokenizer.grid.size, compile)

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, tokenizer: VisualTokenizer, *, dtype: torch.dtype = torch.float32, **more: Any
    ) -> Self:
        """Load a grown model from its folder.

        Raises:
            ValueError: the folder holds no such model.
        """
        folder = Path(folder)
        vocabulary = VisualVocabulary.from_yaml(folder / VOCABULARY)
        model, words = load_language_model(folder, dtype=dtype)
        return cls(model, words, vocabulary, tokenizer, **more)

    def columns(self, prompt: str) -> int:
        """Words of the prompt in its form, or of the empty one, which stands beside it and may be longer."""
        return max(len(self.vocabulary.spelt(self.words, text)) for text in (prompt, ""))

    @torch.no_grad()
    def prefix(self, prompts: Sequence[str], branches: int) -> Prefix:
        """Embed prompts, left-padded: b rows, then with two branches b rows of the empty prompt."""
        for prompt in prompts:
            refuse_unknown_words(self.words, prompt)
        rows = [self.vocabulary.spelt(self.words, prompt) for prompt in prompts]
        if branches == 2:
            rows += [self.vocabulary.spelt(self.words, "")] * len(prompts)
        longest = max(map(len, rows))
        ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows], device=self.device)
        columns = torch.arange(longest, device=self.device)
        starts = torch.tensor([longest - len(row) for row in rows], device=self.device)
        return Prefix(self.model.get_input_embeddings()(ids), columns >= starts[:, None])

    def fingerprint(self) -> str:
        """Of all weights."""
        return fingerprint({**self.model.state_dict(), "never": self.project.bias})

    def _embed(self, ids: Tensor) -> Tensor:
        return self.model.get_input_embeddings()(ids + self.vocabulary.first)
