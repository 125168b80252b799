"""What a calibration of one VLM can be asked for: the keyword arguments of `calibrate_vlm`, which are also the options of
`detok calibrate`.

Nothing heavy is imported here, so the command line can explain itself at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ..config import Config
from ..evaluation.evaluation_settings import AtLeastOne, NotNegative

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class CalibrationSettings(Config):
    """Which VLM is measured on which prompts, which pictures are encoded, and how the search goes."""

    vlm: str = "mini"
    """The frozen VLM: `mini`, a folder, or a Hub id."""
    prompts: Path | None = None
    """What the VLM draws while its distributions are measured; captions of the embedded world unless given."""
    num_prompts: AtLeastOne = 100
    """At most this many prompts are drawn."""
    images: tuple[Path, ...] = ()
    """Pictures and folders whose encoder features are calibrated, prepared as in training."""
    smallest: AtLeastOne = 1
    """Refuse pictures whose shorter side has fewer pixels; at 1 none is refused, and small ones are enlarged."""
    world: NotNegative = 0
    """Use this many training scenes of the embedded world as images instead."""
    guidance: float | None = None
    """Classifier-free guidance of the VLM, as it will be used for drawing; the VLM's own default unless given."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Temperature of the VLM's sampling, as it will be used for drawing."""
    search: Literal["joint", "paper"] = "joint"
    """`joint` re-fits the sharpness for every smoothing value; `paper` follows the paper's order, guarded."""
    kappa_range: tuple[Positive, Positive] | None = None
    """The only range in which the sharpness is searched. Unless given, the paper's 10 to 60, widened where that is
    needed: codes that lie close together need more."""
    epsilons: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
    """Amounts of smoothing to try. Smoothing fattens the tail, which the loss does not measure and a decoder reads
    (docs/log.md); `--epsilons 0` leaves it out."""
    objective: Literal["quantiles", "summaries"] = "quantiles"
    """What the search compares beside mean entropy: quantiles of entropy and confidence (Eq. 16), or the means of the
    four uncertainty features that the decoder reads (section 4.2), of which the tail entropy is one."""
    seed: NotNegative = 0
    """Decides the tokens the VLM draws."""
    batch: AtLeastOne = 8
    """Prompts drawn together."""
    device: str = "auto"
    """`auto` (CUDA if there is any), `cpu`, `cuda`."""
    out: Path
    """The .json file to write; the plot goes beside it."""
