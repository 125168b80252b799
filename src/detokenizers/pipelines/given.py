"""What calls are given and give back: generators to seeds, prompts in a row, pictures in and pictures out.

generators -seeds_of-> one seed a picture ; PIL | numbers -as_images-> [-1, 1] -as_output-> pil | np | pt
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ..data.canonical import PREPARATIONS, RULE
from ..pixels import to_levels, to_tensor

OutputType = Literal["pil", "np", "pt", "latent"]
Generators = torch.Generator | Sequence[torch.Generator] | None


def seeds_of(generator: Generators, count: int) -> list[int]:
    """The seeds of so many pictures, one each, as everything in this house is drawn.

    A generator stands for a row of seeds. The first is the seed that it was given itself, so that
    `torch.Generator().manual_seed(7)` means `seeds=[7]`; the others are drawn from it, and it goes on from there in the
    next call. A list has one generator a picture. Without one, seeds are drawn from torch's global generator.

    Raises:
        ValueError: a list of another length, or no generators.
    """
    if generator is None:
        return torch.randint(2**63 - 1, (count,)).tolist()
    if isinstance(generator, torch.Generator):
        return [next_seed(generator) for _ in range(count)]
    if not isinstance(generator, Sequence):
        raise ValueError(f"generator is {generator!r}; give torch.Generator().manual_seed(SEED), or a list of them")
    if len(generator) != count:
        raise ValueError(f"{count} pictures are to be drawn, but there are {len(generator)} generators; give one each")
    return [next_seed(one) for one in generator]


def next_seed(generator: torch.Generator) -> int:
    """The next of a generator's row of seeds."""
    first = generator.initial_seed()
    new = torch.equal(generator.get_state(), torch.Generator(generator.device).manual_seed(first).get_state())
    drawn = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
    return first if new else drawn


def texts_of(prompt: str | Sequence[str], each: int) -> list[str]:
    """Every prompt so many times in a row, as diffusers orders them."""
    if each < 1:
        raise ValueError(f"num_images_per_prompt is {each}; it must be at least 1")
    return [text for text in ([prompt] if isinstance(prompt, str) else prompt) for _ in range(each)]


def as_output(images: Float[Tensor, "b 3 h w"], kind: OutputType) -> list[Image.Image] | np.ndarray | Tensor:
    """Images in [-1, 1] as diffusers hands them out: PIL, or numbers in [0, 1], `[b h w 3]` in NumPy or `[b 3 h w]` in
    torch."""
    if kind == "pil":
        return [Image.fromarray(levels) for levels in to_levels(images)]  # the very levels that `detok` writes
    numbers = (images / 2 + 0.5).clamp(0, 1)
    return numbers if kind == "pt" else numbers.float().cpu().permute(0, 2, 3, 1).numpy()


def as_images(images: Any, size: int) -> Float[Tensor, "b 3 s s"]:
    """Pictures in [-1, 1]: PIL ones by the rule of every verb (data/canonical.py), numbers in [0, 1] as they are.

    Raises:
        ValueError: no pictures, or arrays of another size or outside [0, 1].
    """
    if isinstance(images, Image.Image):
        images = [images]
    if isinstance(images, Sequence):
        if not images or not all(isinstance(one, Image.Image) for one in images):
            raise ValueError(
                "images are PIL pictures, one or a list of them, or numbers; open files with PIL.Image.open"
            )
        squares = [np.asarray(PREPARATIONS[RULE](one.convert("RGB"), size)) for one in images]
        return to_tensor(np.stack(squares))
    numbers = torch.from_numpy(images).movedim(-1, 1) if isinstance(images, np.ndarray) else images
    if numbers.shape[1:] != (3, size, size) or not bool(((numbers >= 0) & (numbers <= 1)).all()):
        raise ValueError(
            f"images as numbers are [b 3 {size} {size}] in torch or [b {size} {size} 3] in NumPy, in [0, 1]; these are "
            f"{list(images.shape)} from {float(numbers.min()):g} to {float(numbers.max()):g}"
        )
    return 2 * numbers.float() - 1
