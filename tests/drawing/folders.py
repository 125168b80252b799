"""What a drawing left in a folder, for comparing two of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from detokenizers.data.images import notes_of

PROMPTS = ["a dog on grass", "a red apple on a wooden table", "two cats on a blue background"]


def pictures(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*/*.png"))}


def assert_alike(left: Path, right: Path) -> None:
    """The same pictures of the same prompts, but for one level: another batch sums in another order."""
    assert pictures(left).keys() == pictures(right).keys()
    for name in pictures(left):
        assert notes_of(left / name) == notes_of(right / name)
        both = [np.asarray(Image.open(folder / name)).astype(int) for folder in (left, right)]
        assert np.abs(both[0] - both[1]).max() <= 1
