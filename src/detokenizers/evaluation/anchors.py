"""Published numbers, beside which ours are shown.

`ROWS`: what papers report of reconstruction and generation, by the protocol that ours must follow to stand beside them.
Keys are those of our metrics where the paper states enough, and its own word where it does not (`ssim`, `lpips`: window
and network are not stated). `ANCHORS`: what papers and READMEs report on the benchmarks. A base model that scores near
its published number was probably scored rightly; comparable are only equal judges, protocols and N, and each row states
whether that can be.

protocol name -ROWS-> lines of papers' tables ; benchmark -ANCHORS-> reported numbers, and whether it compares
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .benchmarks.geneval_prompts import TASKS
from .benchmarks.mjhq import CATEGORIES
from .results import Metric

METRICS: Mapping[str, Metric] = {
    "psnr": Metric("PSNR", "higher", "dB"),
    "ssim": Metric("SSIM (window not stated)", "higher"),
    "lpips": Metric("LPIPS (net not stated)", "lower"),
    "rfid": Metric("rFID", "lower"),
    "fid": Metric("FID", "lower"),
    "clipscore_datacomp": Metric("CLIPScore (model not stated)", "higher"),
    "density_inception": Metric("density-inception", "higher"),
    "coverage_inception": Metric("coverage-inception", "higher"),
}


class Row(NamedTuple):
    """A line of a paper's table."""

    source: str
    label: str
    kind: str
    """`reconstruction` or `generation`: what it may stand beside."""
    numbers: Mapping[str, float]


def _reconstructed(source: str, label: str, rfid: float, ssim: float, lpips: float, **more: float) -> Row:
    return Row(source, label, "reconstruction", {**more, "ssim": ssim, "lpips": lpips, "rfid": rfid})


def _drawn(source: str, label: str, fid: float, **more: float) -> Row:
    return Row(source, label, "generation", {"fid": fid, **more})


DCDD, VUGEN, MADIT = "DCDD, Table", "VUGEN, Table", "MaDiT, Table"

ROWS: Mapping[str, tuple[Row, ...]] = {
    "dcdd-imagenet": (
        _reconstructed(f"{DCDD} 2", "Janus-Pro-7B VQ", 2.8511, 0.5786, 0.1541),
        _reconstructed(f"{DCDD} 2", "Janus-Pro-7B DCDD", 0.7535, 0.5957, 0.1374),
        _reconstructed(f"{DCDD} 4", "hard codes, 10K steps", 33.5081, 0.4244, 0.4132),
        _reconstructed(f"{DCDD} 4", "LCDM, 10K steps", 31.2049, 0.4275, 0.4009),
        _reconstructed(f"{DCDD} 4", "LCDM + LC, 10K steps", 30.5760, 0.4360, 0.3875),
    ),
    "dcdd-imagenet-1k": (
        _reconstructed(f"{DCDD} 6", "Janus-Pro-7B VQ", 23.1038, 0.5756, 0.1551),
        _reconstructed(f"{DCDD} 6", "DCDD, 5 steps", 35.0169, 0.5855, 0.1918),
        _reconstructed(f"{DCDD} 6", "DCDD, 10 steps", 20.8859, 0.5995, 0.1478),
        _reconstructed(f"{DCDD} 6", "DCDD, 15 steps", 18.3279, 0.6012, 0.1417),
        _reconstructed(f"{DCDD} 6", "DCDD, 20 steps", 17.6918, 0.5993, 0.1405),
        _reconstructed(f"{DCDD} 6", "DCDD, 25 steps", 17.5659, 0.5975, 0.1404),
        _reconstructed(f"{DCDD} 6", "DCDD, 30 steps", 17.6969, 0.5954, 0.1410),
        _reconstructed(f"{DCDD} 6", "DCDD, 35 steps", 17.7818, 0.5940, 0.1414),
    ),
    "dcdd-imagenet-256": (
        _reconstructed(f"{DCDD} 7", "LlamaGen-XL VQ", 4.1919, 0.5566, 0.1388),
        _reconstructed(f"{DCDD} 7", "LlamaGen-XL DCDD", 1.4087, 0.5600, 0.1404),
    ),
    "dcdd-mjhq-256": (
        _reconstructed(f"{DCDD} 7", "LlamaGen-XL VQ", 4.9653, 0.6140, 0.1407),
        _reconstructed(f"{DCDD} 7", "LlamaGen-XL DCDD", 1.9028, 0.6060, 0.1484),
        _drawn(f"{DCDD} 8", "LlamaGen-XL VQ", 59.03),
        _drawn(f"{DCDD} 8", "LlamaGen-XL DCDD", 61.09),
    ),
    "dcdd-mjhq": (
        _reconstructed(f"{DCDD} 2", "Janus-Pro-7B VQ", 4.4882, 0.6564, 0.1432),
        _reconstructed(f"{DCDD} 2", "Janus-Pro-7B DCDD", 1.8127, 0.6782, 0.1308),
        _drawn(f"{DCDD} 3", "Janus-Pro-7B VQ", 14.2888),
        _drawn(f"{DCDD} 3", "Janus-Pro-7B DCDD", 9.4160),
    ),
    "mjhq-cleanfid": (
        _drawn("MetaQuery, README", "Janus-Pro-7B", 13.48),
        _drawn("MetaQuery, README", "Janus-Pro-1B", 14.33),
        _drawn("Playground v2.5, README", "SDXL-1-0-refiner", 9.55),
        _drawn("Playground v2.5, README", "Playground v2", 7.07),
    ),
    "rfid-in50k": (Row("LlamaGen, README", "VQ-16, 256 px", "reconstruction", {"rfid": 2.19}),),
    "evalgim": tuple(
        _drawn(f"{VUGEN} 1", label, fid, clipscore_datacomp=clip, density_inception=density / 100,
              coverage_inception=coverage / 100)
        for label, fid, clip, density, coverage in (
            ("Decoupled", 5.85, 26.32, 70.51, 16.61),
            ("REPA", 5.40, 25.89, 72.12, 17.14),
            ("VUGEN", 4.15, 26.40, 103.32, 22.46),
        )
    ),
    "evalgim-coco": tuple(
        _drawn(f"{VUGEN} 1", label, fid, clipscore_datacomp=clip)
        for label, fid, clip in (("Decoupled", 13.06, 26.71), ("REPA", 11.86, 26.71), ("VUGEN", 9.07, 27.45))
    ),
    "madit-imagenet": (
        _reconstructed(f"{MADIT} 1", "LlamaGen", 0.70, 0.62, 0.24, psnr=22.51),
        _reconstructed(f"{MADIT} 1", "Open-MAGVIT2", 0.53, 0.65, 0.22, psnr=23.84),
        _reconstructed(f"{MADIT} 1", "Cosmos-DI", 1.46, 0.59, 0.27, psnr=22.16),
        _reconstructed(f"{MADIT} 1", "MaDiT", 0.57, 0.65, 0.21, psnr=23.95),
    ),
    "madit-mjhq": (
        _reconstructed(f"{MADIT} 1", "X-Omni", 11.17, 0.34, 0.53, psnr=14.39),
        _reconstructed(f"{MADIT} 1", "MaDiT (reads captions)", 1.04, 0.75, 0.20, psnr=24.90),
    ),
}  # fmt: skip
"""By protocol. Sources: the papers' tables as seeds/ has them, and for baselines the repositories' READMEs."""


class Anchor(NamedTuple):
    """One published row, by the keys of our metrics and in our units."""

    model: str
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


def _geneval(model: str, source: str, overall: float, *tasks: float) -> Anchor:
    """In percent, as tables have it."""
    numbers = {"score": overall, **dict(zip(TASKS, tasks))}
    return Anchor(model, source, {key: value / 100 for key, value in numbers.items()}, MMDET)


def _mjhq(model: str, overall: float, *categories: float) -> Anchor:
    numbers = {"overall": overall, **dict(zip(CATEGORIES, categories))}
    return Anchor(model, "DCDD, tables 3 and 8", numbers, "the paper does not state its protocol", UNSTATED)


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
