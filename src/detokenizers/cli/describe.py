"""`detok describe`: images to captions, by the understanding side of the VLM that otherwise draws.

pictures -vision tower, LM (greedy)-> captions -> stdout, OUT.jsonl ; with --world also how many are right
"""

from __future__ import annotations

import json

from tqdm import tqdm

from ..checkpoint import write_text
from ..data.pictures import pictures, truths
from ..data.world.world import World
from ..device import device_of
from ..evaluation.tables import table
from ..evaluation.understanding import understanding
from ..pretrained.vlm.loading import load_vlm
from .verbs import Describe


def run(request: Describe) -> None:
    """Describe every picture, print and write the captions."""
    if request.out and request.out.suffix != ".jsonl":
        raise ValueError(f"--out {request.out} must be a .jsonl file; it holds one line an image")
    vlm = load_vlm(request.vlm, device=device_of(request.device))
    found = pictures(request.images, request.world, vlm.tokenizer.image_size, request.batch, request.split)
    captions: dict[str, str] = {}
    for ids, images in tqdm(found.batches, desc="describing", total=len(found.chunks), disable=None):
        answers = vlm.describe(images, request.question, max_tokens=request.max_tokens)
        captions |= dict(zip(ids, answers))
    for id, said in captions.items():
        print(f"{id}: {said}")
    if request.out:
        rows = [{"id": id, "caption": said, "vlm": request.vlm} for id, said in captions.items()]
        write_text(request.out, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))
    if request.world:
        scores = understanding(list(captions.values()), truths(World(), request.world, request.split))
        print(f"\n{table('VLM', {request.vlm: scores})}")
