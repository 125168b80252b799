"""The picture a person looks at before believing any number: one row a prompt, one column a decoder, all at one scale.

Optionally a column shows a number per token (how unsure the model was) as a heat map on the token grid, with its colour
bar. Colours run evenly in lightness from dark violet to pale yellow, so they survive print and colour blindness.

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
TITLE_SIZE, HEADER_SIZE, CAPTION_SIZE, NOTE_SIZE = 27, 18, 19, 14


def contact_sheet(
    captions: Sequence[str],
    columns: Mapping[str, Float[Tensor, "b 3 h w"]],
    *,
    title: str | None = None,
    note: str | None = None,
    heat: Float[Tensor, "b gh gw"] | None = None,
    heat_label: str = "uncertainty",
    heat_range: tuple[float, float] = (0.0, 1.0),
    tile: int | None = None,
) -> Image.Image:
    """Lay images out with their captions and the decoders' names.

    Args:
        captions: one per row.
        columns: decoder name -> images in [-1, 1]; sizes may differ between columns.
        title, note: a line above (large) and below (small, grey).
        heat: one number per token, drawn as the last column over `heat_range`.
        tile: side of a picture on the sheet; unless given, the largest image enlarged to 192 px or more.
    """
    if not columns or not captions:
        raise ValueError("a contact sheet needs at least one caption and one column of images")
    for name, images in columns.items():
        if images.ndim != 4 or len(images) != len(captions):
            raise ValueError(f"{len(captions)} captions need as many images, but {name!r} has {tuple(images.shape)}")
    if heat is not None and (heat.ndim != 3 or len(heat) != len(captions)):
        raise ValueError(f"{len(captions)} captions need heat maps [b gh gw], got {tuple(heat.shape)}")
    tile = tile or tile_size(max(max(images.shape[-2:]) for images in columns.values()))
    pictures = {name: [picture(image, tile) for image in images] for name, images in columns.items()}
    if heat is not None:
        pictures[heat_label] = [heat_map(rows, heat_range, tile) for rows in heat]

    panel = CAPTION + len(pictures) * (tile + GAP) - GAP
    rows, panels = panelled(len(captions), (panel + PANEL_GAP, tile + ROW_GAP))
    edges = [MARGIN + index * (panel + PANEL_GAP) for index in range(panels)]
    lefts = [[edge + CAPTION + index * (tile + GAP) for index in range(len(pictures))] for edge in edges]
    width = edges[-1] + panel + MARGIN
    last = lefts[-1][-1]
    note_width = (width - MARGIN if heat is None else last - GAP) - MARGIN
    titles = wrap(title or "", font(TITLE_SIZE), width - 2 * MARGIN)
    heads = [wrap(name, font(HEADER_SIZE), tile, 2) for name in pictures]
    notes = wrap(note or "", font(NOTE_SIZE), note_width)

    head_top = MARGIN - 6 + len(titles) * line_height(TITLE_SIZE) + (16 if titles else 0)
    top = head_top + max(map(len, heads)) * line_height(HEADER_SIZE) + 12
    bottom = top + rows * (tile + ROW_GAP) - ROW_GAP
    foot = bottom + (24 if notes or heat is not None else 0)
    foot_height = max(len(notes) * line_height(NOTE_SIZE), 32 if heat is not None else 0)
    sheet = Image.new("RGB", (width, foot + foot_height + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)

    write(draw, (MARGIN, MARGIN - 6), titles, TITLE_SIZE, INK)
    for columns_of_panel in lefts:
        for left, lines in zip(columns_of_panel, heads):
            first = top - 12 - len(lines) * line_height(HEADER_SIZE)
            write(draw, (left, first), lines, HEADER_SIZE, SOFT)
    for index, caption in enumerate(captions):
        place, row = divmod(index, rows)
        y = top + row * (tile + ROW_GAP)
        lines = wrap(caption, font(CAPTION_SIZE), CAPTION - 24, tile // line_height(CAPTION_SIZE))
        write(draw, (edges[place], y + (tile - len(lines) * line_height(CAPTION_SIZE)) // 2), lines, CAPTION_SIZE, INK)
        for left, column in zip(lefts[place], pictures.values()):
            draw.rectangle((left - 1, y - 1, left + tile, y + tile), outline=HAIRLINE)
            one = column[index]
            sheet.paste(one, (left + (tile - one.width) // 2, y + (tile - one.height) // 2))
    if heat is not None:
        colour_bar(sheet, draw, (last, foot), tile, heat_range)
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
    """The smallest whole multiple of an image's side that a person can see well."""
    return side * math.ceil(SMALLEST_TILE / side)


def picture(image: Float[Tensor, "3 h w"], tile: int) -> Image.Image:
    """An image scaled to fit the tile."""
    pixels = levels(image[None])[0].to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    scale = tile / max(pixels.shape[:2])
    size = round(pixels.shape[1] * scale), round(pixels.shape[0] * scale)
    # Bare pixels at 3x are a mosaic that hides the picture; Lanczos shows what a viewer's own scaling would.
    return Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)


def heat_map(values: Float[Tensor, "gh gw"], bounds: tuple[float, float], tile: int) -> Image.Image:
    """One flat coloured square per token."""
    low, high = bounds
    if not torch.isfinite(values).all() or low >= high:
        raise ValueError(f"a heat map needs finite values and a range that grows, got the range {low} to {high}")
    shades = ((values.detach().cpu().double() - low) / (high - low)).clamp(0, 1).mul(255).round().long().numpy()
    scale = tile / max(shades.shape)
    size = round(shades.shape[1] * scale), round(shades.shape[0] * scale)
    return Image.fromarray(colours()[shades]).resize(size, Image.Resampling.NEAREST)


@cache
def colours() -> UInt8[np.ndarray, "256 3"]:
    """Dark violet, magenta, orange, pale yellow: even steps of lightness in OKLab (Ottosson, 2020)."""
    s = np.linspace(0, 1, 256)
    lightness = 0.20 + 0.76 * s
    chroma = 0.10 + 0.12 * np.sin(np.pi * s**0.9)
    hue = np.radians(285 + 180 * s**1.15)
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    cones = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ]
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = (to_rgb @ cones**3).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (encoded.T * 255).round().astype(np.uint8)


def colour_bar(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], width: int, bounds: tuple[float, float]
) -> None:
    """Draw the scale of a heat map with its two ends."""
    left, top = corner
    sheet.paste(Image.fromarray(colours()[None]).resize((width, 10), Image.Resampling.BILINEAR), corner)
    for value, x, anchor in ((bounds[0], left, "la"), (bounds[1], left + width, "ra")):
        draw.text((x, top + 15), f"{value:g}", fill=SOFT, font=font(NOTE_SIZE), anchor=anchor)


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
