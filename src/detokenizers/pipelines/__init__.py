"""The models of the house as diffusers has them: `DiffusionPipeline`s over the same objects, with the same pixels.

    import detokenizers as dt
    pipe = dt.pipeline("mini", decoder="mini/dcdd")
    pipe("a red apple on a wooden table", generator=torch.Generator().manual_seed(0)).images[0].save("apple.png")

What diffusers' users expect is there: `save_pretrained`, `from_pretrained`, `push_to_hub`, `to`, offloading, callbacks,
output types, `vae.enable_tiling()`, LoRA. docs/pipelines.md says what differs.

prompt | visual_tokens | images -TokenDecoderPipeline-> images ; prompt -TextToImagePipeline-> images
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loading import pipeline as pipeline
    from .prompts import TextToImagePipeline as TextToImagePipeline
    from .tokens import TokenDecoderPipeline as TokenDecoderPipeline

_HOMES = {"TextToImagePipeline": "prompts", "TokenDecoderPipeline": "tokens", "pipeline": "loading"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
