"""`detok generate`: prompts to pictures. The work is `drawing.generate`'s."""

from __future__ import annotations

from .. import drawing
from ..drawing.drawing_settings import GenerateConfig
from .command_line import greedy_options, require_quotes


class Generate(GenerateConfig):
    """Draw images from prompts, by one or several decoders from the same tokens.

    Writes OUT/DECODER/ITEM.png (prompt, seed and settings travel inside), tokens/, manifest.jsonl and the contact sheet
    sheet.png. Run again, it goes on where it stopped and draws only what is missing.

    detok generate "two red apples on a wooden table" --compare --out out/
    """


def run(request: Generate) -> None:
    """Draw what is missing, and print where it is."""
    from ..device import is_first

    require_quotes(request.text)
    if not (request.text or request.prompts or request.world or request.bench):
        raise ValueError(
            'there is nothing to draw; give prompts ("a dog on grass"), --prompts FILE, --world N or --bench NAME'
            f"{greedy_options(request, 'decoder')}"
        )
    drawn = drawing.generate(**dict(request))
    if not is_first():
        return
    count = f"{len(drawn.rows)} item{'s' * (len(drawn.rows) > 1)}"
    print(f"{count} by {', '.join(drawn.labels)} in {drawn.folder}; look at {drawn.sheet}")
