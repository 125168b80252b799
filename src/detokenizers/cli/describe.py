"""`detok describe`: images to captions, by the understanding side of the VLM that otherwise draws.

pictures -vision tower, LM (greedy)-> captions -> stdout, OUT.jsonl ; with --world also how many are right
"""

from __future__ import annotations

from ..evaluation.tables import table
from ..evaluation.understanding import describe
from .verbs import Describe


def run(request: Describe) -> None:
    """Describe every picture, print and write the captions."""
    found = describe(**request.model_dump())
    for id, caption in found.captions.items():
        print(f"{id}: {caption}")
    if found.scores:
        print(f"\n{table('VLM', {request.vlm: found.scores})}")
