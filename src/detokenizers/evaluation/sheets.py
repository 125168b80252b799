"""The picture to view before trusting a number: one row a prompt, one column a decoder, all at one scale.

Optionally a column shows a number per token (its uncertainty) as a heat map on the token grid, with its colour
bar, in matplotlib's `inferno`, whose even steps of lightness survive print and colour blindness.

Many rows are laid out in panels side by side, so that the sheet has the shape of a screen.

captions, {decoder: images [b 3 h w]}, heat [b gh gw] -contact_sheet-> one PIL image on white.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .pairwise import levels

SMALLEST_TILE = 192
MARGIN, CAPTION, GAP, ROW_GAP = 44, 210, 14, 20
PANEL_GAP, FEW, SCREEN = 56, 4, 3 / 2
"""Between panels in px; rows that are left in one panel; width over height that many rows come near to."""
INK, SOFT, HAIRLINE = "#1c2128", "#6e7781", "#e1e4e8"
HEADER_SIZE, CAPTION_SIZE, NOTE_SIZE = 18, 19, 14


def contact_sheet(
    captions: Sequence[str],
    columns: Mapping[str, Float[Tensor, "b 3 h w"]],
    *,
    note: str | None = None,
    heat: Float[Tensor, "b gh gw"] | None = None,
    heat_label: str = "uncertainty",
) -> Image.Image:
    """Lay images out with their captions and the decoders' names.

    Args:
        captions: one per row.
        columns: decoder name -> images in [-1, 1]; sizes may differ between columns.
        note: a line below.
        heat: one number in [0, 1] per token, drawn as the last column.
    """
    if not columns or not captions:
        raise ValueError("a contact sheet needs at least one caption and one column of images")
    for name, images in columns.items():
        if images.ndim != 4 or len(images) != len(captions):
            raise ValueError(f"{len(captions)} captions need as many images, but {name!r} has {tuple(images.shape)}")
    if heat is not None and (heat.ndim != 3 or len(heat) != len(captions)):
        raise ValueError(f"{len(captions)} captions need heat maps [b gh gw], got {tuple(heat.shape)}")
    tile = tile_size(max(max(images.shape[-2:]) for images in columns.values()))
    pictures = {name: [picture(image, tile) for image in images] for name, images in columns.items()}
    if heat is not None:
        pictures[heat_label] = [heat_map(rows, tile) for rows in heat]

    panel = CAPTION + len(pictures) * (tile + GAP) - GAP
    rows, panels = panelled(len(captions), (panel + PANEL_GAP, tile + ROW_GAP))
    edges = [MARGIN + index * (panel + PANEL_GAP) for index in range(panels)]
    lefts = [[edge + CAPTION + index * (tile + GAP) for index in range(len(pictures))] for edge in edges]
    width = edges[-1] + panel + MARGIN
    last = lefts[-1][-1]
    note_width = (width - MARGIN if heat is None else last - GAP) - MARGIN
    heads = [wrap(name, font(HEADER_SIZE), tile, 2) for name in pictures]
    notes = wrap(note or "", font(NOTE_SIZE), note_width)

    top = MARGIN - 6 + max(map(len, heads)) * line_height(HEADER_SIZE) + 12
    bottom = top + rows * (tile + ROW_GAP) - ROW_GAP
    foot = bottom + (24 if notes or heat is not None else 0)
    foot_height = max(len(notes) * line_height(NOTE_SIZE), 32 if heat is not None else 0)
    sheet = Image.new("RGB", (width, foot + foot_height + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)

    for columns_of_panel in lefts:
        for left, lines in zip(columns_of_panel, heads):
            first = top - 12 - len(lines) * line_height(HEADER_SIZE)
            write(draw, (left, first), lines, HEADER_SIZE, SOFT)
    for index, caption in enumerate(captions):
        number, row = divmod(index, rows)
        y = top + row * (tile + ROW_GAP)
        lines = wrap(caption, font(CAPTION_SIZE), CAPTION - 24, tile // line_height(CAPTION_SIZE))
        write(draw, (edges[number], y + (tile - len(lines) * line_height(CAPTION_SIZE)) // 2), lines, CAPTION_SIZE, INK)
        for left, column in zip(lefts[number], pictures.values()):
            draw.rectangle((left - 1, y - 1, left + tile, y + tile), outline=HAIRLINE)
            one = column[index]
            sheet.paste(one, (left + (tile - one.width) // 2, y + (tile - one.height) // 2))
    if heat is not None:
        colour_bar(sheet, draw, (last, foot), tile)
    write(draw, (MARGIN, foot), notes, NOTE_SIZE, SOFT)
    return sheet


def panelled(count: int, cell: tuple[int, int]) -> tuple[int, int]:
    """Rows a panel and panels side by side for so many rows of this width and height, near the shape of a screen.

    Few rows stay in one panel; no panel stands empty.
    """

    def strangeness(panels: int) -> float:
        width, height = panels * cell[0], math.ceil(count / panels) * cell[1]
        return abs(math.log(width / height / SCREEN))

    rows = math.ceil(count / min(range(1, count + 1), key=strangeness)) if count > FEW else count
    return rows, math.ceil(count / rows)


def tile_size(side: int) -> int:
    """The smallest whole multiple of an image's side that is large enough."""
    return side * math.ceil(SMALLEST_TILE / side)


def picture(image: Float[Tensor, "3 h w"], tile: int) -> Image.Image:
    """An image scaled to fit the tile."""
    pixels = levels(image[None])[0].to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    scale = tile / max(pixels.shape[:2])
    size = round(pixels.shape[1] * scale), round(pixels.shape[0] * scale)
    # Bare pixels at 3x are a mosaic that hides the picture; Lanczos shows what a viewer's own scaling would.
    return Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)


def heat_map(values: Float[Tensor, "gh gw"], tile: int) -> Image.Image:
    """One flat coloured square per token, over [0, 1]."""
    shades = values.detach().cpu().double().clamp(0, 1).mul(255).round().long().numpy()
    scale = tile / max(shades.shape)
    size = round(shades.shape[1] * scale), round(shades.shape[0] * scale)
    return Image.fromarray(colours()[shades]).resize(size, Image.Resampling.NEAREST)


@cache
def colours() -> UInt8[np.ndarray, "256 3"]:
    """From black over magenta and orange to pale yellow, even in lightness."""
    from matplotlib import colormaps

    return colormaps["inferno"](np.arange(256), bytes=True)[:, :3]


def colour_bar(sheet: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], width: int) -> None:
    """Draw the scale of a heat map with its two ends."""
    left, top = corner
    sheet.paste(Image.fromarray(colours()[None]).resize((width, 10), Image.Resampling.BILINEAR), corner)
    for value, x, anchor in (("0", left, "la"), ("1", left + width, "ra")):
        draw.text((x, top + 15), value, fill=SOFT, font=font(NOTE_SIZE), anchor=anchor)


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def line_height(size: int) -> int:
    return round(size * 1.35)


def write(draw: ImageDraw.ImageDraw, corner: tuple[int, int], lines: Sequence[str], size: int, fill: str) -> None:
    for index, line in enumerate(lines):
        draw.text((corner[0], corner[1] + index * line_height(size)), line, fill=fill, font=font(size))


def wrap(
    text: str, face: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int, num_lines: int | None = None
) -> list[str]:
    """Break a text into lines of at most `width` px; a text that needs more than `num_lines` ends in an ellipsis."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        while face.getlength(word) > width:
            cut = next(end for end in range(len(word) - 1, 0, -1) if end == 1 or face.getlength(word[:end]) <= width)
            lines += [line] * bool(line) + [word[:cut]]
            line, word = "", word[cut:]
        longer = f"{line} {word}".strip()
        if face.getlength(longer) > width:
            lines.append(line)
            longer = word
        line = longer
    lines += [line] * bool(line)
    if num_lines is not None and len(lines) > num_lines:
        lines = lines[:num_lines]
        while lines[-1] and face.getlength(lines[-1] + "…") > width:
            lines[-1] = lines[-1][:-1].rstrip()
        lines[-1] += "…"
    return lines
