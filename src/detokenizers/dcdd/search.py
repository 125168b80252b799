"""Two gradient-free searches for a calibration (DCDD Eq. 16 and B.2), over any `measured(calibration) -> statistics`.

Mean entropy falls strictly with kappa, so bisection finds kappa; smoothing then shifts it, so kappa is bisected again.
`joint_search` does that for every epsilon of a grid and keeps the best. `paper_search` follows the order of B.2 (kappa,
tau, epsilon, beta), each step taken only if the loss does not rise: without that guard the paper's order drifts.

targets -bisect kappa, sweep the rest-> steps, each with its loss; the last accepted one is the answer
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field, field_validator

from ..config import Config
from .calibration import Calibration
from .token_statistics import Targets


class Measured(Protocol):
    """Gives the statistics of a calibration; the means of its uncertainty features, which take longer, if asked to."""

    def __call__(self, calibration: Calibration, summaries: bool = False, /) -> Targets: ...


class CalibrationError(ValueError):
    """No setting in the searched range reaches the target."""


PAPER_RANGE = (10.0, 60.0)
LIMITS = (0.1, 1e4)
"""How far the paper's range is widened."""
Kappa = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Weights(Config):
    """Of the four terms of Eq. 16 (B.2); the paper says only that mean entropy comes first."""

    # PAPER GAP (docs/dcdd.md#loss-weights): two weights were printed, their values are lost.
    kind: Literal["quantiles"] = "quantiles"
    mean_entropy: float = 1.0
    q95_entropy: float = 0.25
    mean_confidence: float = 0.5
    q95_confidence: float = 0.25


class SummaryWeights(Config):
    """Of the four summaries of section 4.2, the uncertainty features that the decoder reads (Eq. 8), by their means.

    Eq. 16 does not contain the tail entropy, so smoothing that fills the tail costs nothing there; here it does.
    """

    # PAPER GAP (docs/dcdd.md#two-objectives): section 4.2 names these four, B.2 and Eq. 16 four others.
    kind: Literal["summaries"] = "summaries"
    mean_confidence: float = 1.0
    mean_margin: float = 1.0
    mean_topk_mass: float = 1.0
    mean_tail_entropy: float = 1.0


class SearchConfig(Config):
    """Where and how finely to search."""

    # PAPER GAP (docs/dcdd.md#search-grids): only kappa's range and "a small grid", "narrow neighborhoods" are given.
    # The range suits codes that lie as far apart as Janus' do; those of a small codebook need several times more.
    kappa_range: tuple[Kappa, Kappa] | None = None
    """Where kappa is looked for, and nowhere else; unless given, the paper's 10 to 60, widened as the target needs."""
    taus: tuple[float, ...] = (0.9, 0.925, 0.95, 0.975, 1.0, 1.025, 1.05, 1.075, 1.1)
    epsilons: tuple[float, ...] = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
    betas: tuple[float, ...] = (-0.2, -0.1, 0.0, 0.1, 0.2)
    tolerance: float = Field(default=0.02, gt=0)
    """Largest accepted difference in mean normalised entropy (section 5.2)."""
    bisection_tolerance: float = Field(default=1e-3, gt=0)
    """Where bisection stops; much finer than `tolerance`, because it is nearly free."""
    max_bisections: int = Field(default=30, ge=1)
    rounds: int = Field(default=3, ge=1)
    """Of the paper's order."""
    weights: Weights | SummaryWeights = Weights()
    """What the loss compares: `quantiles` (Eq. 16) or `summaries` (section 4.2). Kappa matches mean entropy in both."""

    @field_validator("weights", mode="before")
    @classmethod
    def _read_older_settings(cls, weights: Any) -> Any:
        """A report of before there were two kinds has the first."""
        return {"kind": "quantiles", **weights} if isinstance(weights, dict) else weights


class Step(Config):
    """One candidate of a search, and whether it was taken."""

    name: str
    calibration: Calibration
    loss: float
    mean_entropy: float
    accepted: bool


def loss(achieved: Targets, targets: Targets, weights: Weights | SummaryWeights = Weights()) -> float:  # noqa: B008
    """Weighted absolute differences of four statistics (Eq. 16, or those of section 4.2)."""
    terms = weights.model_dump(exclude={"kind"}).items()
    return sum(weight * abs(getattr(achieved, name) - getattr(targets, name)) for name, weight in terms)


def bisect_kappa(
    mean_entropy: Callable[[float], float],
    target: float,
    bracket: tuple[float, float],
    *,
    tolerance: float = 1e-3,
    max_bisections: int = 30,
) -> float:
    """Find the kappa whose mean entropy is the target; entropy falls strictly with kappa.

    Raises:
        CalibrationError: if the target lies outside what the bracket reaches. It is never clamped.
    """
    low, high = bracket
    if not low < high:
        raise CalibrationError(f"kappa from {low:g} to {high:g} is no range; --kappa-range takes the smaller one first")
    broadest, sharpest = mean_entropy(low), mean_entropy(high)
    if not broadest >= target >= sharpest:
        raise CalibrationError(
            f"mean entropy {target:.4f} is out of reach: kappa from {low:g} to {high:g} gives {broadest:.4f} to "
            f"{sharpest:.4f}; widen --kappa-range, or check that features and codebook are those of the VLM's tokenizer"
        )
    kappa = low
    for _ in range(max_bisections):
        kappa = (low + high) / 2
        difference = mean_entropy(kappa) - target
        if abs(difference) <= tolerance:
            break
        low, high = (kappa, high) if difference > 0 else (low, kappa)
    return kappa


def widened(mean_entropy: Callable[[float], float], target: float) -> tuple[float, float]:
    """The paper's range, its ends doubled and halved until the target lies between them or `LIMITS` are reached."""
    low, high = PAPER_RANGE
    while mean_entropy(high) > target and high < LIMITS[1]:
        high = min(2 * high, LIMITS[1])
    while mean_entropy(low) < target and low > LIMITS[0]:
        low = max(low / 2, LIMITS[0])
    return low, high


def sharpen(measured: Measured, targets: Targets, settings: SearchConfig, around: Calibration) -> Calibration:
    """Match mean entropy by kappa alone, everything else as it is."""

    def mean_entropy(kappa: float) -> float:
        return measured(around.vary(kappa=kappa)).mean_entropy

    kappa = bisect_kappa(
        mean_entropy,
        targets.mean_entropy,
        settings.kappa_range or widened(mean_entropy, targets.mean_entropy),
        tolerance=min(settings.tolerance, settings.bisection_tolerance),
        max_bisections=settings.max_bisections,
    )
    return around.vary(kappa=kappa)


def joint_search(measured: Measured, targets: Targets, settings: SearchConfig, start: Calibration) -> Iterator[Step]:
    """For every epsilon bisect kappa; the lowest loss stands. Recommended: no order of steps to depend on."""
    best = float("inf")
    for epsilon in sorted(settings.epsilons):
        try:
            candidate = sharpen(measured, targets, settings, start.vary(epsilon=epsilon))
        except CalibrationError:
            if best == float("inf"):
                raise
            return  # more smoothing only raises entropy further
        step = _judge(f"kappa | epsilon = {epsilon:g}", candidate, measured, targets, settings, best)
        best = min(best, step.loss)
        yield step


def paper_search(measured: Measured, targets: Targets, settings: SearchConfig, start: Calibration) -> Iterator[Step]:
    """The order of B.2: bisect kappa; sweep tau, epsilon, beta; repeat. A step that raises the loss is not taken."""

    def judge(name: str, candidate: Calibration, ceiling: float) -> Step:
        return _judge(name, candidate, measured, targets, settings, ceiling)

    kept = judge("kappa", sharpen(measured, targets, settings, start), float("inf"))
    yield kept
    for _ in range(settings.rounds):
        before = kept.loss

        softer = [kept.calibration.vary(tau=tau) for tau in settings.taus]
        tried = judge("tau", min(softer, key=lambda one: _loss(one, measured, targets, settings)), kept.loss)
        kept = tried if tried.accepted else kept
        yield tried

        smoother = [kept.calibration.vary(epsilon=epsilon) for epsilon in settings.epsilons]
        best = min(smoother, key=lambda one: abs(measured(one).q95_confidence - targets.q95_confidence))
        tried = judge("epsilon, then kappa again", sharpen(measured, targets, settings, best), kept.loss)
        kept = tried if tried.accepted else kept
        yield tried

        # Every beta gives the same distribution, so the sweep is a tie and ties go to 0.
        yield kept.vary(name="beta")
        if before - kept.loss < 1e-4:
            return


def _judge(
    name: str, candidate: Calibration, measured: Measured, targets: Targets, settings: SearchConfig, ceiling: float
) -> Step:
    """A step is taken if its mean entropy is within the tolerance and its loss not above the ceiling."""
    mean_entropy, value = measured(candidate).mean_entropy, _loss(candidate, measured, targets, settings)
    near = abs(mean_entropy - targets.mean_entropy) <= settings.tolerance
    return Step(
        name=name,
        calibration=candidate,
        loss=value,
        mean_entropy=mean_entropy,
        accepted=near and value <= ceiling,
    )


def _loss(candidate: Calibration, measured: Measured, targets: Targets, settings: SearchConfig) -> float:
    """Only here are the uncertainty features needed: bisection compares mean entropy alone."""
    return loss(measured(candidate, settings.weights.kind == "summaries"), targets, settings.weights)
