"""`detok describe`: images to captions, by the understanding side of the VLM that otherwise draws.

pictures -vision tower, LM (greedy)-> captions -> stdout, OUT.jsonl ; with --world also how many are right
"""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from ..config import Config
from ..drawing.drawing_settings import Scenes
from ..evaluation.evaluation_settings import AtLeastOne, NotNegative


class Describe(Config):
    """Let the VLM describe images: its understanding side, greedy, one line an image.

    With --world it also counts how many captions are right, by kind of scene. Writes OUT, a .jsonl file, if it is given.

    detok describe photos/ --vlm mini
    """

    images: Positional[tuple[Path, ...]] = ()
    """Pictures and folders of pictures, of any size; the centre square is used."""
    world: NotNegative = 0
    """Describe this many scenes of the embedded world instead, and count the captions that are right."""
    split: Scenes = "validation"
    """Which scenes: like those trained on, with captions never trained on, or of objects never trained on."""
    vlm: str = "mini"
    """The frozen VLM: `mini`, a folder, or a Hub id of a Janus."""
    question: str | None = None
    """What a VLM with a chat template is asked about each image; to describe it unless given."""
    max_tokens: AtLeastOne = 64
    """Of the longest answer."""
    batch: AtLeastOne = 32
    """Images read together."""
    device: str = "auto"
    """`auto` (CUDA if there is any), `cpu`, `cuda`."""
    out: Path | None = None
    """A .jsonl file for the captions: one line of `id` and `caption` an image."""


def run(request: Describe) -> None:
    """Describe every picture, print and write the captions."""
    from ..evaluation.tables import table
    from ..evaluation.understanding import describe

    found = describe(**request.model_dump())
    for id, caption in found.captions.items():
        print(f"{id}: {caption}")
    if found.scores:
        print(f"\n{table('VLM', {request.vlm: found.scores})}")
