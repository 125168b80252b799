"""Every metric by the name it is asked for; a name may stand for several parts (`ssim` for both windows).

--metrics psnr lpips-alex fid -chosen-> measures of single pictures, distances of sets, and whether tokens are counted
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .distances import Distance, Frechet, Kernel, Neighbours
from .measures import PSNR, SSIM, ClipScore, Measure, Perceptual, Sharpness
from .pairwise import WINDOWS
from .rules import INCEPTION

EXTRACTORS = ("world", INCEPTION, "inception-7ff4a85c", "efficientnet-lite0", "dinov2")
"""Names as numbers carry them; eight digits of a hash where the file is not the one that FID is defined by."""
CODEBOOK = "codebook"
"""Counted on the tokens, not on the pictures."""
AGREEMENT = "agreement"
"""Needs a judge and parsed captions, which are handed in."""

MEASURES: Mapping[str, tuple[Measure, ...]] = {
    "psnr": (PSNR(),),
    "ssim": tuple(SSIM(window) for window in WINDOWS.values()),
    **{f"ssim-{name}": (SSIM(window),) for name, window in WINDOWS.items()},
    **{name: (Perceptual(name),) for name in ("lpips-alex", "lpips-vgg", "pd-world")},
    "sharpness": (Sharpness(),),
    "clipscore": (ClipScore("clipscore", "clip", "clip-vit-large-patch14"),),
    "clipscore-datacomp": (ClipScore("clipscore-datacomp", "clip-datacomp", "CLIP-ViT-L-14-DataComp.XL-s13B-b90K"),),
}
DISTANCES: Mapping[str, Distance] = {
    "fid": Frechet("fid", INCEPTION),
    "rfid": Frechet("rfid", INCEPTION),
    "kid": Kernel("kid", INCEPTION),
    **{f"fd-{name}": Frechet(f"fd-{name}", name) for name in EXTRACTORS},
    **{f"kd-{name}": Kernel(f"kd-{name}", name) for name in EXTRACTORS},
    **{f"prdc-{name}": Neighbours(f"prdc-{name}", name, labelled=True) for name in EXTRACTORS},
}
KNOWN = (*MEASURES, "prdc", *DISTANCES, AGREEMENT, CODEBOOK)


class Chosen(NamedTuple):
    """What one evaluation measures."""

    measures: tuple[Measure, ...]
    distances: tuple[Distance, ...]
    codebook: bool

    @property
    def extractors(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(distance.extractor for distance in self.distances))


def chosen(names: Sequence[str], *, extractor: str, judge: Measure | None = None) -> Chosen:
    """The parts behind these names.

    Args:
        extractor: the network behind `prdc`.
        judge: the measure behind `agreement`, where there is one.
    """
    for name in names:
        if name not in KNOWN:
            raise ValueError(f"there is no metric {name!r}; there are {', '.join(KNOWN)}")
        if name == AGREEMENT and judge is None:
            raise ValueError(
                "agreement needs captions in the embedded world's grammar; judge a folder that `detok generate` left"
            )
    measures = [part for name in names for part in MEASURES.get(name, ())]
    measures += [judge] if judge and AGREEMENT in names else []
    own = {"prdc": Neighbours("prdc", extractor)}
    distances = [{**DISTANCES, **own}[name] for name in names if name in DISTANCES or name in own]
    # `fid` and `rfid` are one number, and `ssim` may be asked for twice.
    parts = {(type(part), part.extractor, getattr(part, "labelled", None)): part for part in distances}
    return Chosen(tuple({part.name: part for part in measures}.values()), tuple(parts.values()), CODEBOOK in names)
