"""The guidance that a verb draws with."""

from __future__ import annotations

from ..pretrained.vlm.token_vlm import LlamaTokenVLM


def guidance_of(asked: float | None, vlm: LlamaTokenVLM) -> float:
    """The guidance asked for, or else the VLM's own default."""
    return vlm.guidance if asked is None else asked
