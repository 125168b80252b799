"""`detokenizers`: from what a vision-language model computes for an image (tokens, distributions over tokens, features)
to its pixels.

    import detokenizers as dt
    vlm, dcdd = dt.load_vlm("mini"), dt.load("mini/dcdd")
    tokens = vlm.generate(["a red apple on a wooden table"], seeds=[0], observe=dcdd.observers)
    plain, fine = dt.CodeDecoder(vlm.tokenizer)(tokens), dcdd(tokens)

Public names are looked up when first used, so `import detokenizers` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dcdd.model import DCDD as DCDD
    from .decoder import CodeDecoder as CodeDecoder
    from .decoder import FlowDecoder as FlowDecoder
    from .papers import load as load
    from .papers import load_vlm as load_vlm
    from .pipelines.loading import pipeline as pipeline
    from .protocols import Decoder as Decoder
    from .protocols import Grid as Grid
    from .protocols import ImageSpace as ImageSpace
    from .protocols import TextToImage as TextToImage
    from .protocols import TokenVLM as TokenVLM
    from .protocols import VelocityNet as VelocityNet
    from .protocols import VisualTokenizer as VisualTokenizer
    from .protocols import VisualTokens as VisualTokens

__version__ = "0.1.0"

_HOMES = {
    "CodeDecoder": "decoder",
    "DCDD": "dcdd.model",
    "Decoder": "protocols",
    "FlowDecoder": "decoder",
    "Grid": "protocols",
    "ImageSpace": "protocols",
    "TextToImage": "protocols",
    "TokenVLM": "protocols",
    "VelocityNet": "protocols",
    "VisualTokenizer": "protocols",
    "VisualTokens": "protocols",
    "load": "papers",
    "load_vlm": "papers",
    "pipeline": "pipelines.loading",
}

__all__ = [*_HOMES, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(_HOMES)}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
