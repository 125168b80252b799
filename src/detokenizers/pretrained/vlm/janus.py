"""Janus, frozen: prompts to image tokens, whose distributions can be observed; and images to words.

prompt -format-> ids -Llama embeddings-> [cond; uncond] -token loop-> VisualTokens(ids, observed).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    GenerationMixin,
    JanusForConditionalGeneration,
    ProcessorMixin,
)

from ...checkpoint import resolve
from ...texts import json_of, text_in
from ..vq import JanusVQ
from ..weights.models import PATTERNS, load_model, readable
from .janus_size import JanusSize, build_janus, janus_config
from .llama_blocks import LlamaBlocks
from .prompt_formats import JanusChat, PlainWords, PromptFormat, prompt_batch
from .step_graphs import fused
from .token_loop import Prefix, TokenLoop, TokenParts
from .token_vlm import LlamaTokenVLM

__all__ = ["JanusSize", "JanusVLM", "build_janus", "janus_config"]


class JanusVLM(LlamaTokenVLM):
    """A frozen `TokenVLM` over `JanusForConditionalGeneration`.

    The given model is frozen in place; its image head and VQ are put in fp32, since guidance multiplies their rounding
    errors by up to `2 w - 1`.

    Args:
        model: the Janus.
        processor: its processor, or its tokenizer alone.
        form: how prompts are spelt; by default the chat template if there is one, plain words if not.
        compile: capture the decode step as one CUDA graph (`torch.compile`, reduce-overhead); pays off on GPUs.
    """

    fp32 = ("model.model.vqmodel", "model.model.generation_head")

    def __init__(
        self,
        model: JanusForConditionalGeneration,
        processor: Any,
        form: PromptFormat | None = None,
        *,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        inner = model.model
        inner.vqmodel.float()
        head = inner.generation_head.float()
        self.tokenizer = JanusVQ(inner.vqmodel)
        words = processor.tokenizer if isinstance(processor, ProcessorMixin) else processor
        template = getattr(processor, "chat_template", None) or words.chat_template
        self.form = form or (JanusChat(words, template) if template else PlainWords(words))
        self.guidance = model.generation_config.guidance_scale or self.guidance
        blocks = LlamaBlocks(inner.language_model)
        parts = TokenParts(
            blocks=blocks,
            angles=blocks.angles,
            embed=model.prepare_embeddings_for_image_generation,
            lift=lambda hidden: head.activation_fn(head.proj_out(hidden.float())),
            project=head.vision_head,
        )
        self.loop = TokenLoop(parts, self.tokenizer.grid.size, fused if compile else None)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        compile: bool = False,
    ) -> Self:
        """Load a Janus in transformers' format from a folder or a Hub id; every weight must be there.

        Raises:
            ValueError: no such folder or id, another model's weights, or tensors that are missing or do not fit.
        """
        folder = resolve(name, PATTERNS)
        with readable(f"{folder} holds no readable Janus"):
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            words = AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side="left")
        if config.model_type != "janus":
            raise ValueError(f"{folder} holds a {config.model_type!r} model, not 'janus'")
        # Stored precision first: the VQ and the head stay as precise as the file has them.
        model = load_model(JanusForConditionalGeneration, folder, dtype="auto", whole=True)
        cast(model, dtype)
        words.chat_template = words.chat_template or _processor_template(folder)
        return cls(model, words, compile=compile).to(device)

    def columns(self, prompt: str) -> int:
        """Tokens of the prompt in its form."""
        return len(self.form.ids(prompt))

    @torch.no_grad()
    def prefix(self, prompts: Sequence[str], branches: int) -> Prefix:
        """Embed prompts: `branches` * b rows, left-padded."""
        ids, visible = prompt_batch(self.form, prompts, branches)
        return Prefix(self.model.get_input_embeddings()(ids.to(self.device)), visible.to(self.device))

    @torch.no_grad()
    def describe(
        self,
        images: Float[Tensor, "b 3 s s"],
        question: str | None = None,
        *,
        max_tokens: int = 64,
        batch_size: int = 32,
    ) -> list[str]:
        """Answer a question about images, or describe them, greedily: the understanding side.

        Args:
            images: in [-1, 1], square, as large as the vision tower reads them.
            question: for VLMs with a chat template; without one they are asked to describe the image.
            max_tokens: the longest answer.
            batch_size: images read together.
        """
        tower: Any = self.model.config.vision_config
        if images.shape[1:] != (3, tower.image_size, tower.image_size):
            raise ValueError(
                f"this VLM reads [b 3 {tower.image_size} {tower.image_size}] images, not {list(images.shape)}"
            )
        ids = torch.tensor([self.form.question(question, tower.num_image_tokens)], device=self.device)
        words = self.form.tokenizer
        settings = GenerationConfig(
            do_sample=False,
            max_new_tokens=max_tokens,
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
        )
        generate: Any = getattr(GenerationMixin, "generate")  # noqa: B009
        answers: list[str] = []
        for some in images.split(batch_size):
            asked = ids.expand(len(some), -1)
            written = generate(  # Janus' own adds guidance, which text has not
                self.model,
                asked,
                generation_config=settings,
                attention_mask=torch.ones_like(asked),
                pixel_values=some.to(self.device, self.model.dtype),
            )
            answers += words.batch_decode(written[:, asked.shape[1] :], skip_special_tokens=True)
        return [answer.strip() for answer in answers]


def cast(model: JanusForConditionalGeneration, dtype: torch.dtype) -> None:
    """Put a Janus into a dtype, all but its VQ and image head, which stay in fp32."""
    for name, part in model.model.named_children():
        part.to(torch.float32 if name in ("vqmodel", "generation_head") else dtype)
    model.lm_head.to(dtype)


def _processor_template(folder: Path) -> str | None:
    """The chat template kept with a processor, in the files transformers has used for it over time."""
    for name in ("chat_template.jinja", "chat_template.json", "processor_config.json"):
        if (folder / name).is_file():
            text = text_in(folder / name)
            template = text if name.endswith(".jinja") else json_of(text, str(folder / name)).get("chat_template")
            if template:
                return template
    return None
