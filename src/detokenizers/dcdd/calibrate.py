"""Logit Calibration: find the numbers that make an encoder as certain as the VLM (DCDD Eqs. 9-16, B.2).

The VLM's side is measured once (`TokenStatistics.targets`), the encoder's again and again while a search moves kappa
and epsilon. What comes out is a JSON report bound to one codebook by its fingerprint; training takes it as it is. Beta
cannot change a softmax; the report states that instead of reporting it as tuned.

features + codebook -measure(calibration)-> four statistics -search against targets-> CalibrationReport
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import torch
from jaxtyping import Float
from pydantic import ValidationError
from torch import Tensor

from .. import checkpoint
from ..checkpoint import EMBEDDED
from ..config import Config
from ..nn.ranking import rows_at_a_time
from ..nn.uncertainty import uncertainty
from .calibration import Calibration, require_unit_rows
from .search import CalibrationError, SearchConfig, Step, joint_search, paper_search
from .token_statistics import Targets, TokenStatistics, normalized_entropy, pooled

SEARCHES = {"joint": joint_search, "paper": paper_search}


class CalibrationReport(Config):
    """What a calibration found, against what, and for which codebook."""

    calibration: Calibration
    sharpness: float
    """kappa * alpha / tau: with epsilon, the only thing the search can identify."""
    targets: Targets
    achieved: Targets
    loss: float
    search: str
    settings: SearchConfig
    codebook_sha256: str
    beta_effect: str
    history: tuple[Step, ...]

    def save(self, path: str | Path) -> None:
        """Write the report as JSON, whole or not at all."""
        checkpoint.write_text(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> CalibrationReport:
        """Read a report back; a missing or foreign file is one clear ValueError."""
        try:
            return cls.model_validate_json(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(f"there is no calibration report at {path}; `detok calibrate` writes one") from None
        except (UnicodeDecodeError, OSError) as error:
            raise ValueError(f"{path} is not a readable calibration report: {error}") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the top level"
            raise ValueError(f"{path} is not a calibration report: {where}: {first['msg']}") from None

    def require(self, codebook: Float[Tensor, "v d"]) -> Calibration:
        """Hand out the calibration for the codebook it was made for, and for no other."""
        found = checkpoint.fingerprint(codebook)
        if found != self.codebook_sha256:
            raise ValueError(
                f"this calibration belongs to codebook {self.codebook_sha256[:12]}, not to {found[:12]}; "
                "calibrate again for this tokenizer"
            )
        return self.calibration


Decoder = TypeVar("Decoder", bound=Config)


def calibrated(decoder: Decoder, report: str | None, codebook: Float[Tensor, "v d"]) -> Decoder:
    """A decoder's settings, whose `calibration` is the one that a report found for this codebook, if one is named.

    Raises:
        ValueError: there is no such report, it belongs to another codebook, or numbers are given beside it.
    """
    if report is None:
        return decoder
    own: Calibration = decoder.calibration  # pyright: ignore[reportAttributeAccessIssue]
    if own != Calibration(vlm_side=own.vlm_side):
        raise ValueError(
            f"the calibration is given twice, by {report} and by decoder.calibration; "
            "with --calibration None the numbers of the latter count"
        )
    embedded = EMBEDDED / report
    found = CalibrationReport.load(embedded if embedded.exists() and not Path(report).exists() else report)
    return decoder.vary({"calibration": found.require(codebook), "calibration.vlm_side": own.vlm_side})


@torch.no_grad()
def measure(
    calibration: Calibration,
    features: Float[Tensor, "... d"],
    codebook: Float[Tensor, "v d"],
    *,
    summaries: bool = False,
) -> Targets:
    """The statistics of an encoder's calibrated distributions (Eqs. 11-12), streamed, at most 4096 tokens at a time.

    `summaries` adds the means of the uncertainty features (Eq. 8), which take several times as long.
    """
    columns = []
    for part in features.flatten(0, -2).split(rows_at_a_time(codebook.shape[0], features.device)):
        p = calibration.proxy(part, codebook)
        columns.append(torch.stack([p.amax(-1), normalized_entropy(p)], -1))
        if summaries:
            columns[-1] = torch.cat([columns[-1], uncertainty(p)[:, 1:]], -1)
    return pooled(torch.cat(columns))


@torch.no_grad()
def encoder_statistics(
    features: Float[Tensor, "... d"],
    codebook: Float[Tensor, "v d"],
    calibration: Calibration = Calibration(),  # noqa: B008
) -> TokenStatistics:
    """A whole column of Table 1 for an encoder: raw by default, calibrated if a calibration is given."""
    statistics = TokenStatistics(codebook)
    for part in features.flatten(0, -2).split(rows_at_a_time(codebook.shape[0], features.device)):
        p = calibration.proxy(part, codebook)
        statistics.update(p, p.argmax(-1))
    return statistics


def calibrate(
    features: Float[Tensor, "... d"],
    codebook: Float[Tensor, "v d"],
    targets: Targets,
    search: Literal["joint", "paper"] = "joint",
    settings: SearchConfig = SearchConfig(),  # noqa: B008
    *,
    start: Calibration = Calibration(),  # noqa: B008
    on_step: Callable[[Step], None] = lambda step: None,
) -> CalibrationReport:
    """Match the encoder's distributions to the VLM's (B.2). Deterministic; nothing `[n v]` outlives an evaluation.

    Args:
        features: encoder features before quantisation, of a hundred or more training images.
        codebook: unit rows.
        targets: what the VLM does, from `TokenStatistics.targets`.
        search: `joint` (recommended) or `paper`.
        settings: ranges, grids, tolerance and loss weights.
        start: what is not searched, e.g. `top1_margin` or the VLM's side.
        on_step: called with every candidate, e.g. to move a progress bar.

    Raises:
        CalibrationError: if the target entropy is outside the searched range, or is not met within the tolerance.
        ValueError: if the features are not finite or the codebook's rows are not unit vectors.
    """
    require_unit_rows(codebook)
    features = features.flatten(0, -2)
    if not torch.isfinite(features).all():
        raise ValueError("the features hold NaN or infinity; were they encoded in half precision?")
    seen: dict[tuple[str, bool], Targets] = {}

    def measured(calibration: Calibration, summaries: bool = False) -> Targets:
        key = calibration.model_dump_json(), summaries
        if key not in seen:
            seen[key] = measure(calibration, features, codebook, summaries=summaries)
        return seen[key]

    history = []
    for step in SEARCHES[search](measured, targets, settings, start):
        history.append(step)
        on_step(step)
    taken = [step for step in history if step.accepted]
    if not taken:
        raise CalibrationError(
            f"mean entropy {history[-1].mean_entropy:.4f} stays more than {settings.tolerance} from the target "
            f"{targets.mean_entropy:.4f} after {settings.max_bisections} bisections; allow more of them"
        )
    final = taken[-1].calibration
    return CalibrationReport(
        calibration=final,
        sharpness=final.sharpness,
        targets=targets,
        achieved=measured(final, True),
        loss=taken[-1].loss,
        search=search,
        settings=settings,
        codebook_sha256=checkpoint.fingerprint(codebook),
        beta_effect=_beta_effect(final, features, codebook, settings.betas),
        history=tuple(history),
    )


@torch.no_grad()
def _beta_effect(
    calibration: Calibration, features: Float[Tensor, "n d"], codebook: Float[Tensor, "v d"], betas: tuple[float, ...]
) -> str:
    """What sweeping beta does, which is nothing: measured on a few tokens in fp64 rather than claimed."""
    few, codes = features[:16].double(), codebook.double()
    without = calibration.vary(beta=0.0).proxy(few, codes)
    moved = max((calibration.vary(beta=beta).proxy(few, codes) - without).abs().max().item() for beta in betas)
    return "none (softmax-invariant)" if moved < 1e-6 else f"moves probabilities by up to {moved:.2g}"
