"""What the papers report, under the protocol that our numbers must follow to stand beside them.

Keys are those of our metrics where the paper says enough, and its own word where it does not (`ssim`, `lpips`: window
and network are not stated). One row is one line of one table.

protocol name -> rows(source, label, kind, {metric key: number}) -> a table under ours in results.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..results import Metric

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


def reconstructed(source: str, label: str, rfid: float, ssim: float, lpips: float, **more: float) -> Row:
    return Row(source, label, "reconstruction", {**more, "ssim": ssim, "lpips": lpips, "rfid": rfid})


def drawn(source: str, label: str, fid: float, **more: float) -> Row:
    return Row(source, label, "generation", {"fid": fid, **more})


DCDD, VUGEN, MADIT = "DCDD, Table", "VUGEN, Table", "MaDiT, Table"

PUBLISHED: Mapping[str, tuple[Row, ...]] = {
    "dcdd-imagenet": (
        reconstructed(f"{DCDD} 2", "Janus-Pro-7B VQ", 2.8511, 0.5786, 0.1541),
        reconstructed(f"{DCDD} 2", "Janus-Pro-7B DCDD", 0.7535, 0.5957, 0.1374),
        reconstructed(f"{DCDD} 4", "hard codes, 10K steps", 33.5081, 0.4244, 0.4132),
        reconstructed(f"{DCDD} 4", "LCDM, 10K steps", 31.2049, 0.4275, 0.4009),
        reconstructed(f"{DCDD} 4", "LCDM + LC, 10K steps", 30.5760, 0.4360, 0.3875),
    ),
    "dcdd-imagenet-1k": (
        reconstructed(f"{DCDD} 6", "Janus-Pro-7B VQ", 23.1038, 0.5756, 0.1551),
        reconstructed(f"{DCDD} 6", "DCDD, 5 steps", 35.0169, 0.5855, 0.1918),
        reconstructed(f"{DCDD} 6", "DCDD, 10 steps", 20.8859, 0.5995, 0.1478),
        reconstructed(f"{DCDD} 6", "DCDD, 15 steps", 18.3279, 0.6012, 0.1417),
        reconstructed(f"{DCDD} 6", "DCDD, 20 steps", 17.6918, 0.5993, 0.1405),
        reconstructed(f"{DCDD} 6", "DCDD, 25 steps", 17.5659, 0.5975, 0.1404),
        reconstructed(f"{DCDD} 6", "DCDD, 30 steps", 17.6969, 0.5954, 0.1410),
        reconstructed(f"{DCDD} 6", "DCDD, 35 steps", 17.7818, 0.5940, 0.1414),
    ),
    "dcdd-imagenet-256": (
        reconstructed(f"{DCDD} 7", "LlamaGen-XL VQ", 4.1919, 0.5566, 0.1388),
        reconstructed(f"{DCDD} 7", "LlamaGen-XL DCDD", 1.4087, 0.5600, 0.1404),
    ),
    "dcdd-mjhq-256": (
        reconstructed(f"{DCDD} 7", "LlamaGen-XL VQ", 4.9653, 0.6140, 0.1407),
        reconstructed(f"{DCDD} 7", "LlamaGen-XL DCDD", 1.9028, 0.6060, 0.1484),
        drawn(f"{DCDD} 8", "LlamaGen-XL VQ", 59.03),
        drawn(f"{DCDD} 8", "LlamaGen-XL DCDD", 61.09),
    ),
    "dcdd-mjhq": (
        reconstructed(f"{DCDD} 2", "Janus-Pro-7B VQ", 4.4882, 0.6564, 0.1432),
        reconstructed(f"{DCDD} 2", "Janus-Pro-7B DCDD", 1.8127, 0.6782, 0.1308),
        drawn(f"{DCDD} 3", "Janus-Pro-7B VQ", 14.2888),
        drawn(f"{DCDD} 3", "Janus-Pro-7B DCDD", 9.4160),
    ),
    "mjhq-cleanfid": (
        drawn("MetaQuery, README", "Janus-Pro-7B", 13.48),
        drawn("MetaQuery, README", "Janus-Pro-1B", 14.33),
        drawn("Playground v2.5, README", "SDXL-1-0-refiner", 9.55),
        drawn("Playground v2.5, README", "Playground v2", 7.07),
    ),
    "rfid-in50k": (Row("LlamaGen, README", "VQ-16, 256 px", "reconstruction", {"rfid": 2.19}),),
    "evalgim": tuple(
        drawn(f"{VUGEN} 1", label, fid, clipscore_datacomp=clip, density_inception=density / 100,
              coverage_inception=coverage / 100)
        for label, fid, clip, density, coverage in (
            ("Decoupled", 5.85, 26.32, 70.51, 16.61),
            ("REPA", 5.40, 25.89, 72.12, 17.14),
            ("VUGEN", 4.15, 26.40, 103.32, 22.46),
        )
    ),
    "evalgim-coco": tuple(
        drawn(f"{VUGEN} 1", label, fid, clipscore_datacomp=clip)
        for label, fid, clip in (("Decoupled", 13.06, 26.71), ("REPA", 11.86, 26.71), ("VUGEN", 9.07, 27.45))
    ),
    "madit-imagenet": (
        reconstructed(f"{MADIT} 1", "LlamaGen", 0.70, 0.62, 0.24, psnr=22.51),
        reconstructed(f"{MADIT} 1", "Open-MAGVIT2", 0.53, 0.65, 0.22, psnr=23.84),
        reconstructed(f"{MADIT} 1", "Cosmos-DI", 1.46, 0.59, 0.27, psnr=22.16),
        reconstructed(f"{MADIT} 1", "MaDiT", 0.57, 0.65, 0.21, psnr=23.95),
    ),
    "madit-mjhq": (
        reconstructed(f"{MADIT} 1", "X-Omni", 11.17, 0.34, 0.53, psnr=14.39),
        reconstructed(f"{MADIT} 1", "MaDiT (reads captions)", 1.04, 0.75, 0.20, psnr=24.90),
    ),
}  # fmt: skip
"""Sources: the papers' tables as seeds/ has them, and for baselines the repositories' READMEs."""
