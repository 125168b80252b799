"""What `detok demo` can be asked for. Nothing heavy is imported here, so the command line can explain itself at once."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..config import Config
from ..evaluation.evaluation_settings import AtLeastOne


class DemoConfig(Config):
    """What draws, where the page is, and how much it accepts of strangers."""

    vlm: str | None = None
    """The frozen VLM: `mini`, a folder, a Hub id such as deepseek-community/Janus-Pro-7B, or llamagen-xl@DIR; `mini` unless
    given. Models that draw from prompts bring their own, and are held to the one that is named, if one is."""
    decoder: tuple[str, ...] = ("vq", "mini/dcdd")
    """Decoders, side by side: `vq` (the VLM's own), `mini/dcdd`, folders of runs, Hub ids."""
    device: str = "auto"
    """`auto` (CUDA if there is any), `cpu`, `cuda`, `cuda:1`."""
    host: str = "127.0.0.1"
    """The address that is listened on: this machine alone, or everyone at 0.0.0.0."""
    port: Annotated[int, Field(ge=1, le=65535)] = 7860
    """The port."""
    waiting: AtLeastOne = 16
    """Requests that may wait; one is drawn at a time, and what goes beyond is refused."""
    longest_prompt: AtLeastOne = 300
    """Characters of a prompt."""
    largest_file: AtLeastOne = 8
    """Megabytes of an upload, which is deleted after a quarter of an hour."""
    largest_picture: AtLeastOne = 32
    """Millions of pixels of an upload."""
    most_steps: AtLeastOne = 100
    """Sampling steps."""
