"""Pictures by one or several decoders from the same tokens, in a folder that a call can go on in.

    from detokenizers import drawing
    drawn = drawing.generate("a red apple on a wooden table", decoder=["vq", "mini/dcdd"], out="out")
    print(drawn.table(), drawn.sheet)

    drawing.reconstruct("photos/", decoder={"mine": my_decoder}, out="rec").scores["mine"]["psnr"]

`detok generate` and `detok reconstruct` are the same from the command line; drawing_settings.py lists the settings.

prompts -items-> VLM -kept_tokens-> decoders -gallery-> Drawn ; pictures -tokenizer-> tokens -decoders-> Drawn, scores
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .gallery import Drawn as Drawn
    from .generation import generate as generate
    from .reconstruction import reconstruct as reconstruct

_HOMES = {"Drawn": "gallery", "generate": "generation", "reconstruct": "reconstruction"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
