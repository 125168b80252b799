"""Tokens to pictures: sampled by a VLM from a prompt, handed over, or read from other pictures.

prompt -VLM, observed for the decoder-> VisualTokens ; images -tokenizer-> VisualTokens -decoder-> images
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import numpy as np
import torch
from diffusers.utils import BaseOutput
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from ..decoder import CodeDecoder
from ..protocols import Decoder, TokenVLM, VisualTokenizer, VisualTokens
from .base import Callback, DrawingPipeline
from .components import Drawer, FrozenVLM
from .given import Generators, OutputType, as_images, seeds_of, texts_of

Pictures = Image.Image | np.ndarray | Tensor | Sequence[Image.Image]


@dataclass
class TokenDecoderOutput(BaseOutput):
    """Pictures, and the tokens that they were drawn from; those go into another call as `visual_tokens`."""

    images: Any
    visual_tokens: VisualTokens


class TokenDecoderPipeline(DrawingPipeline):
    """A frozen VLM that samples tokens, and a decoder that draws from them: DCDD, MaDiT, or the VLM's own.

    Args:
        vlm: what `dt.load_vlm` returns; None where tokens are always handed over.
        decoder: what `dt.load` returns; None is the decoder that the VLM ships with.
    """

    model_cpu_offload_seq = "vlm->decoder"
    _optional_components: ClassVar[list[str]] = ["vlm", "decoder"]
    vlm: FrozenVLM | None
    decoder: Drawer | None

    def __init__(self, vlm: FrozenVLM | None = None, decoder: Drawer | None = None) -> None:
        super().__init__()
        vlm = None if vlm is None else FrozenVLM.of(vlm)
        decoder = None if decoder is None else Drawer.of(decoder)
        self.register_modules(vlm=vlm, decoder=decoder)
        if vlm is not None and decoder is not None:
            cast(Any, decoder.model).require(cast(Any, vlm.model).tokenizer)

    @property
    def drawer(self) -> Drawer:
        if self.decoder is None and self.vlm is None:
            raise ValueError(
                "this pipeline has neither a decoder nor a VLM with a decoder of its own; load one of them"
            )
        return self.decoder or Drawer(CodeDecoder(self.tokenizer))

    @property
    def tokenizer(self) -> VisualTokenizer:
        """The VLM's visual tokenizer; without a VLM the decoder's own, where it has one."""
        if self.vlm is not None:
            return cast(TokenVLM, self.vlm.model).tokenizer
        own = getattr(self.drawer.model, "codes", None)
        if not isinstance(own, VisualTokenizer):
            raise ValueError("this pipeline has no VLM, whose tokenizer is needed; hand over VisualTokens(ids, grid)")
        return own

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        visual_tokens: VisualTokens | Int[Tensor, "b n"] | None = None,
        images: Pictures | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        decoder_guidance_scale: float | None = None,
        temperature: float = 1.0,
        captions: Sequence[str] | None = None,
        num_images_per_prompt: int = 1,
        generator: Generators = None,
        output_type: OutputType = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] | None = None,
    ) -> TokenDecoderOutput | tuple[Any, VisualTokens]:
        """Draw from a prompt, from tokens, or from pictures; one of the three.

        Args:
            prompt: one or several; the VLM samples their tokens.
            visual_tokens: those of an earlier call, or ids [b n] for decoders that need nothing but ids.
            images: pictures to read and draw again; PIL of any size, or numbers in [0, 1] of the tokenizer's.
            num_inference_steps: of the decoder; its own unless given.
            guidance_scale: classifier-free guidance of the VLM; its own unless given.
            decoder_guidance_scale: of the decoder, where it has guidance (MaDiT).
            temperature: of the VLM's sampling.
            captions: what the pictures show, for decoders that read words; the prompts unless given.
            num_images_per_prompt: pictures of every prompt, or of every set of tokens, each with its own seed.
            generator: one, or one a picture; `seeds_of` says which seeds they stand for.
            output_type: `pil`, `np`, `pt`, or `latent` for what the decoder draws before it becomes pixels.
            return_dict: whether an output with names is returned, or a tuple.
            callback_on_step_end: called after every step of the decoder.
            callback_on_step_end_tensor_inputs: the tensors that it is given; there are `latents`.

        Raises:
            ValueError: an argument does not fit, as its message says.
        """
        if sum(given is not None for given in (prompt, visual_tokens, images)) != 1:
            raise ValueError("give one of prompt, visual_tokens and images")
        if prompt is None and (guidance_scale is not None or temperature != 1.0):
            raise ValueError("guidance_scale and temperature are the VLM's, and tokens that are there are not sampled")
        on_step = self._begin(output_type, callback_on_step_end, callback_on_step_end_tensor_inputs)
        self._guidance_scale, model = guidance_scale, self.drawer.model
        decoder = cast(Decoder, model)
        if prompt is not None:
            prompts = texts_of(prompt, num_images_per_prompt)
            seeds = seeds_of(generator, len(prompts))
            tokens = self._sampled(prompts, seeds, decoder, guidance_scale, temperature)
            spoken = prompts
        else:
            tokens = repeated(self._given(visual_tokens, images), num_images_per_prompt)
            seeds, spoken = seeds_of(generator, len(tokens)), tokens.captions
        if captions is not None and "captions" not in getattr(model, "options", ()):
            raise ValueError(f"a {type(model).__name__} takes no captions")
        tokens = replace(tokens, captions=spoken if captions is None else list(captions))
        drawn = self._draw(
            tokens,
            seeds,
            steps=num_inference_steps,
            output_type=output_type,
            on_step=on_step,
            guidance=decoder_guidance_scale,
        )
        self.maybe_free_model_hooks()
        return TokenDecoderOutput(drawn, tokens) if return_dict else (drawn, tokens)

    def _sampled(
        self, prompts: list[str], seeds: list[int], decoder: Decoder, guidance: float | None, temperature: float
    ) -> VisualTokens:
        """The tokens that the VLM samples, with what was observed for the decoder."""
        if self.vlm is None:
            raise ValueError("this pipeline has no VLM to read a prompt; hand over visual_tokens")
        if lacking := decoder.needs - decoder.observers.keys():
            raise ValueError(
                f"a {type(decoder).__name__} draws from the {', '.join(sorted(lacking))} of pictures, which a VLM does "
                "not sample; give images instead of a prompt"
            )
        with self._bar(len(prompts) * self.tokenizer.grid.size) as bar:
            return self.vlm(
                "generate",
                prompts,
                seeds=seeds,
                guidance=guidance,
                temperature=temperature,
                observe=decoder.observers,
                progress=lambda done, total: bar.update(done - bar.n),
            )

    def _given(self, tokens: VisualTokens | Tensor | None, images: Any) -> VisualTokens:
        """Tokens that are there, or those of pictures with all that the decoder needs."""
        if isinstance(tokens, VisualTokens):
            return tokens
        if tokens is not None:
            return VisualTokens(torch.as_tensor(tokens), self.tokenizer.grid)
        shown = as_images(images, self.tokenizer.image_size).to(self._execution_device)
        return self.drawer("read", shown, self.tokenizer)


def repeated(tokens: VisualTokens, each: int) -> VisualTokens:
    """Every item so many times in a row."""
    if each < 1:
        raise ValueError(f"num_images_per_prompt is {each}; it must be at least 1")
    rows = torch.arange(len(tokens)).repeat_interleave(each)
    observed = {name: numbers[rows.to(numbers.device)] for name, numbers in tokens.observed.items()}
    captions = None if tokens.captions is None else [tokens.captions[row] for row in rows.tolist()]
    return VisualTokens(tokens.ids[rows.to(tokens.ids.device)], tokens.grid, observed, captions)
