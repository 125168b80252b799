"""The guidance that a verb draws with."""

from __future__ import annotations

from ..protocols import TokenVLM


def guidance_of(asked: float | None, vlm: TokenVLM) -> float:
    """The guidance asked for, or else the VLM's own default."""
    return vlm.guidance if asked is None else asked
