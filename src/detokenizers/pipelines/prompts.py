"""Prompts to pictures without tokens in between: VUGEN.

prompt, seeds -latents, by a guided flow-> latents -its own decoder-> images
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.utils import BaseOutput

from .base import Callback, DrawingPipeline
from .components import Drawer
from .given import Generators, OutputType, seeds_of, texts_of


@dataclass
class TextToImageOutput(BaseOutput):
    """Pictures."""

    images: Any


class TextToImagePipeline(DrawingPipeline):
    """A model from prompts to images, such as VUGEN.

    Args:
        model: what `dt.load` returns.
    """

    model_cpu_offload_seq = "model"
    model: Drawer

    def __init__(self, model: Drawer) -> None:
        super().__init__()
        self.register_modules(model=Drawer.of(model))

    @property
    def drawer(self) -> Drawer:
        return self.model

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        num_images_per_prompt: int = 1,
        generator: Generators = None,
        output_type: OutputType = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] | None = None,
    ) -> TextToImageOutput | tuple[Any]:
        """Draw prompts.

        Args:
            prompt: one or several.
            num_inference_steps: of the flow; the model's own unless given.
            guidance_scale: classifier-free guidance; the model's own unless given.
            num_images_per_prompt: pictures of every prompt, each with its own seed.
            generator: one, or one a picture; `seeds_of` says which seeds they stand for.
            output_type: `pil`, `np`, `pt`, or `latent` for what the flow draws before it becomes pixels.
            return_dict: whether an output with names is returned, or a tuple.
            callback_on_step_end: called after every step.
            callback_on_step_end_tensor_inputs: the tensors that it is given; there are `latents`.

        Raises:
            ValueError: an argument does not fit, as its message says.
        """
        on_step = self._begin(output_type, callback_on_step_end, callback_on_step_end_tensor_inputs)
        prompts, self._guidance_scale = texts_of(prompt, num_images_per_prompt), guidance_scale
        drawn = self._draw(
            prompts,
            seeds_of(generator, len(prompts)),
            steps=num_inference_steps,
            output_type=output_type,
            on_step=on_step,
            guidance=guidance_scale,
        )
        self.maybe_free_model_hooks()
        return TextToImageOutput(drawn) if return_dict else (drawn,)
