"""What papers and READMEs report on the benchmarks, and whether ours may stand beside it.

They are anchors: a base model that scores near its published number was probably scored rightly. Comparable they are
only where judge, protocol and N are the same, and each row says whether that can be.

benchmark -ANCHORS-> who reported what, and how -comparable-> yes, perhaps or no, and why
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .geneval.prompts import TASKS
from .mjhq_set import CATEGORIES


class Anchor(NamedTuple):
    """One published row, by the keys of our metrics and in our units."""

    who: str
    source: str
    numbers: Mapping[str, float]
    how: str
    """Judge or protocol behind it."""
    protocol: str | None = None
    """Ours under which the number compares, at full N; `None`: it never does."""

    def comparable(self, protocol: str | None, *, whole: bool) -> str:
        """Whether a result of ours may stand beside it, and why not."""
        if self.protocol is None:
            return f"no: {self.how}"
        if protocol != self.protocol or not whole:
            return f"no: ask for --protocol {self.protocol} and draw all"
        return f"yes: {self.how}" if self.protocol != UNSTATED else f"perhaps: {self.how}"


MMDET, MPLUG = "judged by mmdet's Mask2Former and open_clip", "judged by mPLUG-large"
UNSTATED = "dcdd-mjhq"


def _geneval(who: str, source: str, overall: float, *tasks: float) -> Anchor:
    """In percent, as tables have it."""
    numbers = {"score": overall, **dict(zip(TASKS, tasks))}
    return Anchor(who, source, {key: value / 100 for key, value in numbers.items()}, MMDET)


def _mjhq(who: str, overall: float, *categories: float) -> Anchor:
    numbers = {"overall": overall, **dict(zip(CATEGORIES, categories))}
    return Anchor(who, "DCDD, tables 3 and 8", numbers, "the paper does not state its protocol", UNSTATED)


ANCHORS: Mapping[str, tuple[Anchor, ...]] = {
    "geneval": (
        _geneval("Janus-Pro-7B VQ", "DCDD, Table 3", 77.24, 97.81, 84.09, 56.56, 87.50, 75.75, 61.75),
        _geneval("Janus-Pro-7B DCDD", "DCDD, Table 3", 78.31, 99.06, 88.89, 59.38, 88.30, 72.50, 61.75),
        _geneval("LlamaGen-XL VQ", "DCDD, Table 8", 30.02, 69.06, 32.32, 14.69, 55.85, 5.25, 3.00),
        _geneval("LlamaGen-XL DCDD", "DCDD, Table 8", 28.19, 70.94, 25.76, 19.38, 47.07, 4.25, 1.75),
        _geneval("Janus-Pro-7B", "its authors", 80),
        _geneval("VUGEN", "VUGEN", 56.81),
        _geneval("MaDiT + Qwen2.5-7B", "MaDiT", 79),
        _geneval("Stable Diffusion 2.1", "GenEval's README", 50),
        _geneval("SDXL", "GenEval's README", 55),
        _geneval("IF-XL", "GenEval's README", 61),
    ),
    "dpg": (
        Anchor("Janus-Pro-7B", "its authors", {"score": 84.19}, MPLUG),
        Anchor("Janus-Pro-1B", "its authors; a user measured 74.64 (BLIP3o #46)", {"score": 82.63}, MPLUG),
        Anchor("VUGEN", "VUGEN (its abstract says 74.32)", {"score": 74.15}, MPLUG),
        Anchor("MaDiT + Qwen2.5-7B", "MaDiT", {"score": 84.63}, MPLUG),
    ),
    "mjhq": (
        _mjhq("Janus-Pro-7B VQ", 14.2888, 31.6866, 35.6408, 32.1410, 33.1787, 32.4016, 30.5020, 42.3565, 37.6049,
              33.1228, 27.4424),
        _mjhq("Janus-Pro-7B DCDD", 9.4160, 25.1060, 28.9806, 26.0182, 28.1580, 28.5172, 26.7104, 38.2032, 30.2217,
              33.6617, 25.0277),
        # The paper prints the same number for landscape and vehicles in both LlamaGen rows, surely a slip.
        _mjhq("LlamaGen-XL VQ", 59.0292, 74.1959, 82.9698, 92.8457, 86.4562, 89.2189, 82.0326, 68.5263, 105.9981,
              87.2854, 82.0326),
        _mjhq("LlamaGen-XL DCDD", 61.0925, 74.6621, 87.1321, 104.2776, 93.6168, 96.6309, 90.0496, 66.9729, 114.4049,
              93.7683, 90.0496),
        Anchor("Janus-Pro-7B", "MetaQuery's README", {"overall": 13.48}, "256 px, torchmetrics' FID"),
        Anchor("SDXL-refiner", "Playground's README", {"overall": 9.55}, "clean-fid, 30,000", "mjhq-cleanfid"),
        Anchor("Playground v2", "Playground's README", {"overall": 7.07}, "clean-fid, 30,000", "mjhq-cleanfid"),
    ),
    "world": (),
}  # fmt: skip
