"""The two searches on statistics with a known answer: what they weigh, in which order, and when they stop."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from detokenizers.dcdd.calibration import Calibration
from detokenizers.dcdd.search import (
    PAPER_RANGE,
    CalibrationError,
    SearchConfig,
    SummaryWeights,
    Weights,
    bisect_kappa,
    joint_search,
    loss,
    paper_search,
)
from detokenizers.dcdd.token_statistics import Targets

SETTINGS = SearchConfig(taus=(1.0,), epsilons=(0.0, 0.01, 0.02))


def statistics(entropy: float, confidence: float = 0.5, **others: float) -> Targets:
    rest = {"q95_entropy": 0.7, "q95_confidence": 0.9, "num_tokens": 1} | others
    return Targets(mean_entropy=entropy, mean_confidence=confidence, **rest)


def world(calibration: Calibration, summaries: bool = False) -> Targets:
    """Sharpness lowers entropy; smoothing raises it, by five times itself, and takes four times itself off the 95th
    percentile of confidence."""
    entropy = 6 / calibration.sharpness + 5 * calibration.epsilon
    return statistics(entropy, q95_confidence=0.9 - 4 * calibration.epsilon)


def test_the_grids_are_those_of_the_spec():
    settings = SearchConfig()
    assert settings.kappa_range is None
    assert PAPER_RANGE == (10, 60)
    assert settings.taus == pytest.approx([0.9 + 0.025 * step for step in range(9)])
    assert settings.epsilons == (0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
    assert settings.betas == (-0.2, -0.1, 0, 0.1, 0.2)
    assert (settings.tolerance, settings.bisection_tolerance) == (0.02, 1e-3)
    assert (settings.max_bisections, settings.rounds) == (30, 3)


@pytest.mark.parametrize("name", ["tolerance", "bisection_tolerance", "max_bisections", "rounds"])
def test_a_search_without_steps_or_tolerance_is_refused(name):
    with pytest.raises(ValidationError, match=name):
        SearchConfig.model_validate({name: 0})


def test_the_loss_weighs_mean_entropy_first_and_confidence_by_half():
    achieved = Targets(mean_entropy=0.1, q95_entropy=0.2, mean_confidence=0.3, q95_confidence=0.4, num_tokens=1)
    nothing = achieved.vary(mean_entropy=0, q95_entropy=0, mean_confidence=0, q95_confidence=0)
    assert loss(achieved, nothing) == pytest.approx(1 * 0.1 + 0.25 * 0.2 + 0.5 * 0.3 + 0.25 * 0.4)
    assert loss(nothing, achieved) == loss(achieved, nothing), "too little is as bad as too much"
    alone = Weights(mean_entropy=0, q95_entropy=2, mean_confidence=0, q95_confidence=0)
    assert loss(achieved, nothing, alone) == pytest.approx(0.4)


def test_the_summaries_objective_is_the_four_features_that_the_decoder_reads():
    one = {"mean_confidence": 0.1, "mean_margin": 0.2, "mean_topk_mass": 0.3, "mean_tail_entropy": 0.4}
    rest = {"mean_entropy": 9.0, "q95_entropy": 9.0, "q95_confidence": 9.0, "num_tokens": 1}
    achieved, nothing = Targets(**one, **rest), Targets(**dict.fromkeys(one, 0.0), **dict.fromkeys(rest, 0))
    assert loss(achieved, nothing, SummaryWeights()) == pytest.approx(1.0)
    assert loss(achieved, nothing, SummaryWeights(mean_tail_entropy=0)) == pytest.approx(0.6)


def test_bisection_asks_no_further_once_it_is_near_enough():
    asked: list[float] = []
    found = bisect_kappa(lambda kappa: asked.append(kappa) or 6 / kappa, 6 / 35, (10, 60), tolerance=1e-3)
    assert found == 35, "the middle of the bracket"
    assert asked == [10, 60, 35]


def test_bisection_takes_as_many_steps_as_it_may_and_no_more():
    asked: list[float] = []
    bisect_kappa(lambda kappa: asked.append(kappa) or 6 / kappa, 0.2, (10, 60), tolerance=1e-12, max_bisections=4)
    assert asked == [10, 60, 35, 22.5, 28.75, 31.875]


@pytest.mark.parametrize("target", [0.6, 0.1])
def test_the_ends_of_the_bracket_are_within_reach(target):
    assert bisect_kappa(lambda kappa: 6 / kappa, target, (10, 60)) == pytest.approx(6 / target, rel=0.01)


@pytest.mark.parametrize("name", ["tolerance", "bisection_tolerance"])
def test_kappa_is_as_exact_as_the_finer_of_two_tolerances(name):
    settings = SETTINGS.vary({"epsilons": (0.0,), name: 1e-8})
    (step,) = joint_search(world, statistics(0.17), settings, Calibration())
    assert step.calibration.kappa == pytest.approx(6 / 0.17, rel=1e-6)


def test_the_joint_search_finds_sharpness_and_smoothing_of_known_statistics():
    truth = Calibration(kappa=40, epsilon=0.01)
    steps = list(joint_search(world, world(truth), SETTINGS, Calibration(top1_margin=0.1)))
    assert [step.calibration.epsilon for step in steps] == [0, 0.01, 0.02]
    assert [step.accepted for step in steps] == [True, True, False], "the third is worse than the second"
    best = steps[1]
    assert best.calibration.kappa == pytest.approx(40, rel=0.01)
    assert best.loss == pytest.approx(0, abs=1.1e-3)
    assert best.calibration.top1_margin == 0.1, "what is not searched stays as it was"
    assert steps[0].loss == pytest.approx(0.25 * 0.04, abs=1.1e-3)
    assert steps[2].mean_entropy == pytest.approx(world(truth).mean_entropy, abs=1e-3)


def test_the_joint_search_stops_where_smoothing_alone_is_more_entropy_than_wanted():
    asked: set[float] = set()

    def measured(calibration: Calibration, summaries: bool = False) -> Targets:
        asked.add(calibration.epsilon)
        return world(calibration)

    settings = SETTINGS.vary(epsilons=(0.04, 0.0, 0.01, 0.02, 0.03), kappa_range=(10, 60))
    steps = list(joint_search(measured, statistics(0.17), settings, Calibration()))
    assert [step.calibration.epsilon for step in steps] == [0, 0.01], "at 0.02 no kappa up to 60 gives 0.17"
    assert asked == {0, 0.01, 0.02}
    with pytest.raises(CalibrationError, match="out of reach"):
        list(joint_search(measured, statistics(0.05), settings, Calibration()))


@pytest.mark.parametrize("search", [joint_search, paper_search])
def test_the_uncertainty_features_are_measured_once_a_candidate_and_never_while_bisecting(search):
    asked: list[bool] = []

    def measured(calibration: Calibration, summaries: bool = False) -> Targets:
        asked.append(summaries)
        means = dict.fromkeys(("mean_margin", "mean_topk_mass", "mean_tail_entropy"), calibration.epsilon)
        return world(calibration).vary(**means if summaries else {})

    settings = SETTINGS.vary(weights=SummaryWeights(), bisection_tolerance=1e-6, rounds=1)
    targets = measured(Calibration(kappa=40, epsilon=0.01), True)
    asked.clear()
    steps = list(search(measured, targets, settings, Calibration()))
    assert [step for step in steps if step.accepted][-1].calibration.epsilon == 0.01
    assert asked.count(True) == {joint_search: 3, paper_search: 4}[search], "and the one tau of the paper's order"
    bisections = {joint_search: 3, paper_search: 2}[search]
    assert bisections * 15 < asked.count(False) < bisections * (2 + 2 + settings.max_bisections) + 10


def test_a_step_whose_entropy_was_not_met_is_not_taken():
    hasty = SETTINGS.vary(max_bisections=1, epsilons=(0.0,))
    (step,) = joint_search(world, statistics(0.4), hasty, Calibration())
    assert step.calibration.kappa == 35
    assert step.mean_entropy == pytest.approx(6 / 35)
    assert not step.accepted
    (step,) = joint_search(world, statistics(0.4), hasty.vary(tolerance=0.25), Calibration())
    assert step.accepted, "within a tolerance that is wide enough"


def test_the_paper_s_order_picks_smoothing_by_the_95th_percentile_and_bisects_kappa_again():
    truth = Calibration(kappa=40, epsilon=0.01)
    steps = list(paper_search(world, world(truth), SETTINGS, Calibration()))
    first, smoothed = steps[0], steps[2]
    assert first.accepted
    assert first.calibration.epsilon == 0
    assert first.calibration.kappa == pytest.approx(30, rel=0.01), "0.2 of entropy without smoothing"
    assert smoothed.name == "epsilon, then kappa again"
    assert smoothed.calibration.epsilon == 0.01
    assert smoothed.calibration.kappa == pytest.approx(40, rel=0.01)
    assert smoothed.accepted


def test_the_paper_s_order_picks_the_tau_of_the_lowest_loss():
    """Tau alone moves the mean of confidence here, and kappa makes up for what it does to entropy."""

    def softened(calibration: Calibration, summaries: bool = False) -> Targets:
        return statistics(6 / calibration.kappa, confidence=0.5 + (1.05 - calibration.tau))

    settings = SETTINGS.vary(taus=(0.95, 1.0, 1.05, 1.1), epsilons=(0.0,))
    steps = list(paper_search(softened, statistics(0.2), settings, Calibration()))
    assert steps[1].name == "tau"
    assert steps[1].calibration.tau == 1.05
    assert steps[1].accepted
    assert steps[-1].calibration.tau == 1.05
    blind = settings.vary(weights=Weights(mean_confidence=0, q95_entropy=0, q95_confidence=0))
    assert list(paper_search(softened, statistics(0.2), blind, Calibration()))[-1].calibration.tau == 0.95, "a tie"


def test_the_paper_s_order_ends_with_the_round_that_gains_nothing():
    truth, sequence = Calibration(kappa=40, epsilon=0.01), ["tau", "epsilon, then kappa again", "beta"]

    def names(**changes: object) -> list[str]:
        return [step.name for step in paper_search(world, world(truth), SETTINGS.vary(**changes), Calibration())]

    assert names() == ["kappa", *sequence, *sequence], "the first round gains, the second does not"
    assert names(rounds=1) == ["kappa", *sequence]
    assert names(epsilons=(0.0,)) == ["kappa", *sequence], "nothing to gain at all"


def test_the_paper_s_order_keeps_what_it_has_when_a_step_is_worse():
    """Smoothing that fits the 95th percentile and spoils the mean of confidence is tried and left."""

    def spoiled(calibration: Calibration, summaries: bool = False) -> Targets:
        return world(calibration).vary(mean_confidence=0.5 - 10 * calibration.epsilon)

    steps = list(paper_search(spoiled, statistics(0.2, q95_confidence=0.86), SETTINGS, Calibration()))
    tried, last = steps[2], steps[-1]
    assert tried.calibration.epsilon == 0.01
    assert tried.loss > steps[1].loss
    assert not tried.accepted
    assert last.calibration.epsilon == 0
    assert last.loss == min(step.loss for step in steps)
