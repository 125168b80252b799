"""Calibration against the golden numbers of the spec (C1-C9): the transform, the search, and what it may claim."""

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from detokenizers.dcdd.calibrate import CalibrationReport, calibrate, encoder_statistics, measure
from detokenizers.dcdd.calibration import Affine, Calibration, Literally, SmoothOnly, Untouched, cosine
from detokenizers.dcdd.lcdm import expected_codes, probabilities
from detokenizers.dcdd.search import CalibrationError, SearchConfig, SummaryWeights, bisect_kappa, loss
from detokenizers.dcdd.token_statistics import normalized_entropy

CODES = torch.tensor([(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)])
EAST = torch.tensor([[3.0, 0.0]])


def unit(n, d=8, seed=0):
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=-1)


def close(found, expected, atol=1e-5):
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), atol=atol, rtol=0)


@pytest.mark.parametrize(
    ("calibration", "p", "entropy"),
    [
        (Calibration(), [0.534447, 0.196612, 0.072329, 0.196612], 0.839942),  # C1
        (Calibration(kappa=2), [0.775803, 0.104994, 0.014209, 0.104994], 0.527065),  # C2
        (Calibration(kappa=2, alpha=1.1, epsilon=0.04, beta=0.3), [0.788031, 0.096208, 0.019552, 0.096208], 0.515870),
        (Calibration(kappa=2, alpha=1.1, epsilon=0.04, beta=-7), [0.788031, 0.096208, 0.019552, 0.096208], 0.515870),
    ],
)
def test_the_transform_by_hand(calibration, p, entropy):  # C1-C3
    close(cosine(EAST, CODES)[0], [1, 0, -1, 0])
    found = calibration.proxy(EAST, CODES)[0]
    close(found, p)
    close(normalized_entropy(found), entropy)


def test_bisection_finds_kappa():  # C4
    kappa = bisect_kappa(
        lambda kappa: measure(Calibration(kappa=kappa), EAST.double(), CODES).mean_entropy,
        0.6,
        (0.0, 60.0),
        tolerance=1e-8,
    )
    assert kappa == pytest.approx(1.765503, abs=1e-5)
    assert Calibration(kappa=kappa).proxy(EAST, CODES).max().item() == pytest.approx(0.729141, abs=1e-5)


def test_entropy_falls_with_kappa_and_the_expected_code_grows_towards_the_feature():  # C5
    codes, features = unit(16384), unit(128, seed=1)
    entropies = []
    for kappa, entropy, length in zip(
        (10, 20, 30, 40, 60), (0.739, 0.539, 0.414, 0.328, 0.222), (0.697, 0.837, 0.888, 0.915, 0.942), strict=True
    ):
        p = Calibration(kappa=kappa).proxy(features, codes)
        entropies.append(normalized_entropy(p).mean().item())
        assert entropies[-1] == pytest.approx(entropy, abs=0.01)
        mean = expected_codes(p, codes)
        assert mean.norm(dim=-1).mean().item() == pytest.approx(length, abs=0.01)
        assert torch.cosine_similarity(mean, features).mean() > 0.98
    assert entropies == sorted(entropies, reverse=True)


@pytest.mark.parametrize("epsilon", [0.0, 0.01])
def test_the_joint_search_recovers_a_known_calibration(epsilon):  # C6
    codes = unit(1024)
    targets = encoder_statistics(unit(1500, seed=1), codes, Calibration(kappa=27, epsilon=epsilon)).targets()
    report = calibrate(unit(1500, seed=2), codes, targets)
    assert report.loss < 0.01
    assert report.sharpness == pytest.approx(27, rel=0.04)
    assert report.calibration.epsilon == pytest.approx(epsilon, abs=0.005)
    assert report.calibration.beta == 0
    assert report.beta_effect.startswith("none")
    assert abs(report.achieved.mean_entropy - targets.mean_entropy) <= 0.02


@pytest.mark.parametrize("epsilon", [0.0, 0.01])
def test_the_paper_s_order_never_accepts_a_worse_loss(epsilon):  # C6
    codes = unit(1024)
    targets = measure(Calibration(kappa=27, epsilon=epsilon), unit(1500, seed=1), codes)
    report = calibrate(unit(1500, seed=2), codes, targets, search="paper")
    losses = [step.loss for step in report.history if step.accepted]
    assert losses == sorted(losses, reverse=True)
    assert report.loss == losses[-1]
    assert abs(report.achieved.mean_entropy - targets.mean_entropy) <= 0.02
    assert report.calibration.beta == 0
    assert report.beta_effect == "none (softmax-invariant)"
    assert {"kappa", "tau", "epsilon, then kappa again", "beta"} <= {step.name for step in report.history}


@pytest.mark.parametrize("search", ["joint", "paper"])
@pytest.mark.parametrize("entropy", [0.02, 0.99])
def test_a_target_out_of_reach_is_an_error_and_not_a_clamp(search, entropy):  # C7
    codes, features = unit(256), unit(64, seed=1)
    targets = measure(Calibration(kappa=20), features, codes).vary(mean_entropy=entropy)
    with pytest.raises(CalibrationError, match=r"out of reach: kappa from 10 to 60 .* widen --kappa-range"):
        calibrate(features, codes, targets, search, SearchConfig(kappa_range=(10, 60)))


@pytest.mark.parametrize("search", ["joint", "paper"])
@pytest.mark.parametrize("kappa", [2.0, 27.0, 300.0])
def test_a_range_that_nobody_gave_is_widened_as_far_as_the_target_needs(search, kappa):
    codes, features = unit(1024), unit(200, seed=1)
    targets = measure(Calibration(kappa=kappa), features, codes)
    report = calibrate(features, codes, targets, search)
    assert report.sharpness == pytest.approx(kappa, rel=0.05)


def test_a_target_beyond_every_range_ends_with_an_error():
    codes, features = unit(256), unit(64, seed=1)
    targets = measure(Calibration(kappa=20), features, codes).vary(mean_entropy=1.0)
    with pytest.raises(CalibrationError, match=r"out of reach: kappa from 0\.1 to 60"):
        calibrate(features, codes, targets)


def test_kappa_never_reaches_the_vlm_unless_taken_literally():  # C8
    logits = 3 * torch.randn(20, 64, generator=torch.Generator().manual_seed(0))
    plain = probabilities(logits)
    close(Calibration(kappa=30).on_vlm(logits), plain, atol=1e-6)
    assert Calibration(kappa=30, vlm_side=Literally()).on_vlm(logits).amax(-1).mean() > 0.99
    tuned = Calibration(kappa=30, tau=0.8, alpha=1.1, epsilon=0.05, top1_margin=0.1)
    close(tuned.on_vlm(logits), 0.95 * (logits * 1.1 / 0.8).softmax(-1) + 0.05 / 64, atol=1e-6)
    close(tuned.vary(vlm_side=Affine(epsilon=0.2)).on_vlm(logits), 0.8 * (logits * 1.1 / 0.8).softmax(-1) + 0.2 / 64)
    close(tuned.vary(vlm_side=Affine(epsilon=0)).on_vlm(logits), (logits * 1.1 / 0.8).softmax(-1), atol=1e-6)
    close(tuned.vary(vlm_side=SmoothOnly()).on_vlm(logits), 0.95 * plain + 0.05 / 64, atol=1e-6)
    close(tuned.vary(vlm_side=Untouched()).on_vlm(logits), plain, atol=1e-6)


def test_kappa_alpha_and_tau_are_one_number():  # C9
    codes, features = unit(512), unit(32, seed=1)
    rows = [
        Calibration(kappa=20, alpha=1.1).proxy(features, codes),
        Calibration(kappa=22).proxy(features, codes),
        Calibration(kappa=20, tau=1 / 1.1).proxy(features, codes),
    ]
    close(rows[0], rows[1], atol=1e-6)
    close(rows[0], rows[2], atol=1e-6)


@pytest.mark.parametrize("beta", [-0.2, -0.1, 0.1, 0.2])
def test_beta_moves_nothing(beta):
    codes, features = unit(512), unit(32, seed=1)
    without = Calibration(kappa=30).proxy(features, codes)
    assert (Calibration(kappa=30, beta=beta).proxy(features, codes) - without).abs().max() < 1e-6


def test_calibration_never_changes_the_most_probable_token():
    codes, features = unit(512), unit(64, seed=1)
    best = cosine(features, codes).argmax(-1)
    for calibration in (Calibration(), Calibration(kappa=30), Calibration(kappa=15, epsilon=0.3, tau=2)):
        assert torch.equal(calibration.proxy(features, codes).argmax(-1), best)


def test_the_lengths_of_features_and_codes_do_not_matter():
    codes, features = unit(64), unit(10, seed=1)
    lengths = torch.linspace(0.5, 2.5, 64)[:, None]
    close(Calibration(kappa=9).proxy(7 * features, codes * lengths), Calibration(kappa=9).proxy(features, codes), 1e-6)


def test_what_is_calibrated_stays_probabilities():
    p = Calibration(kappa=60, epsilon=0.05).proxy(unit(8, seed=1), unit(4096))
    close(p.sum(-1), torch.ones(8))
    assert p.min() >= 0.05 / 4096 * 0.999


def test_a_margin_lowers_confidence_at_the_top_only():
    codes, features = unit(512), unit(32, seed=1)
    plain, margin = (Calibration(kappa=30, top1_margin=m).proxy(features, codes) for m in (0.0, 0.02))
    best = plain.argmax(-1, keepdim=True)
    assert (margin.gather(-1, best) < plain.gather(-1, best)).all()
    close(margin.scatter(-1, best, 0).sum(-1), 1 - margin.gather(-1, best)[:, 0])
    others = plain.scatter(-1, best, 0), margin.scatter(-1, best, 0)
    close(others[0] / others[0].sum(-1, keepdim=True), others[1] / others[1].sum(-1, keepdim=True))


def test_features_of_whole_images_have_the_distributions_of_their_tokens():
    codes, features = unit(64), unit(30, seed=1)
    for calibration in (Calibration(kappa=9), Calibration(kappa=9, top1_margin=0.1, epsilon=0.2)):
        together = calibration.proxy(features.view(2, 3, 5, 8), codes)
        close(together.view(30, 64), calibration.proxy(features, codes), atol=1e-6)


def test_a_report_s_achieved_statistics_are_those_of_the_calibration_it_found():
    codes, features = unit(256), unit(300, seed=1)
    report = calibrate(features, codes, measure(Calibration(kappa=20), unit(300, seed=2), codes))
    found = encoder_statistics(features, codes, report.calibration).targets()
    assert report.achieved == found
    assert found.num_tokens == 300
    p = report.calibration.proxy(features, codes)
    assert found.mean_confidence == pytest.approx(p.amax(-1).mean().item(), abs=1e-5)


def test_a_search_gives_the_same_report_twice_and_however_it_is_chunked(monkeypatch):
    codes, features = unit(256), unit(300, seed=1)
    targets = measure(Calibration(kappa=20), unit(300, seed=2), codes)
    first, again = (calibrate(features, codes, targets) for _ in range(2))
    assert first == again
    monkeypatch.setattr("detokenizers.dcdd.calibrate.rows_at_a_time", lambda v, device: 17)
    chunked = calibrate(features, codes, targets)
    assert first.sharpness == pytest.approx(chunked.sharpness, rel=1e-3)


def test_every_step_is_announced():
    codes, features = unit(256), unit(100, seed=1)
    targets = measure(Calibration(kappa=20), features, codes)
    steps = []
    report = calibrate(features, codes, targets, on_step=steps.append)
    assert tuple(steps) == report.history
    assert min(step.loss for step in steps) == report.loss


def test_a_report_survives_its_own_json_and_knows_its_codebook(tmp_path):
    codes, features = unit(256), unit(100, seed=1)
    targets = measure(Calibration(kappa=20), features, codes)
    start = Calibration(vlm_side=SmoothOnly())
    report = calibrate(features, codes, targets, settings=SearchConfig(epsilons=(0.0, 0.01)), start=start)
    report.save(tmp_path / "calibration.json")
    loaded = CalibrationReport.load(tmp_path / "calibration.json")
    assert loaded == report
    assert loaded.require(codes) == report.calibration
    assert loaded.calibration.vlm_side == SmoothOnly()
    with pytest.raises(ValueError, match="calibrate again"):
        loaded.require(unit(256, seed=9))


def test_a_missing_or_foreign_report_is_one_clear_line(tmp_path):
    with pytest.raises(ValueError, match="no calibration report at"):
        CalibrationReport.load(tmp_path / "none.json")
    (tmp_path / "other.json").write_text('{"kappa": 3}')
    with pytest.raises(ValueError, match="not a calibration report"):
        CalibrationReport.load(tmp_path / "other.json")


def test_bad_features_and_codebooks_are_refused():
    codes, features = unit(256), unit(100, seed=1)
    targets = measure(Calibration(kappa=20), features, codes)
    with pytest.raises(ValueError, match="NaN or infinity"):
        calibrate(features / 0 * 0, codes, targets)
    with pytest.raises(ValueError, match="unit norm"):
        calibrate(features, 3 * codes, targets)
    with pytest.raises(ValueError, match="8 dimensions but the codes have 2"):
        measure(Calibration(), features, CODES)
    with pytest.raises(ValidationError):
        Calibration(tau=0)


def test_the_summaries_objective_ends_soon_at_what_a_dense_scan_of_it_finds(monkeypatch):
    codes, features = unit(64), unit(200, seed=1)
    targets = measure(Calibration(kappa=27, epsilon=0.012), unit(200, seed=2), codes, summaries=True)
    settings = SearchConfig(weights=SummaryWeights(), epsilons=(0.0, 0.005, 0.01, 0.02, 0.05))
    evaluations: list[bool] = []

    def counted(*given, summaries, **named):
        evaluations.append(summaries)
        return measure(*given, summaries=summaries, **named)

    monkeypatch.setattr("detokenizers.dcdd.calibrate.measure", counted)
    report = calibrate(features, codes, targets, settings=settings)
    assert evaluations.count(True) == len(settings.epsilons)
    assert len(evaluations) < 20 * len(settings.epsilons)

    dense = [
        (loss(found, targets, settings.weights), kappa, epsilon)
        for epsilon in settings.epsilons
        for kappa in torch.linspace(20, 40, 201).tolist()
        for found in [measure(Calibration(kappa=kappa, epsilon=epsilon), features, codes, summaries=True)]
        if abs(found.mean_entropy - targets.mean_entropy) <= settings.bisection_tolerance
    ]
    least, kappa, epsilon = min(dense)
    assert report.calibration.epsilon == epsilon
    assert report.calibration.kappa == pytest.approx(kappa, rel=0.02)
    assert report.loss == pytest.approx(least, abs=0.005)


def test_equation_16_fills_the_tail_for_a_little_confidence_and_the_summaries_do_not():
    """A VLM slightly more confident than any encoder of its entropy: smoothing buys that confidence with the tail."""
    codes, features = unit(256), unit(64, seed=1)
    true = encoder_statistics(features, codes, Calibration(kappa=60)).targets()
    vlm = true.vary(mean_confidence=true.mean_confidence + 0.05, q95_confidence=true.q95_confidence + 0.05)
    settings = SearchConfig(kappa_range=(10, 600))
    quantiles = calibrate(features, codes, vlm, settings=settings)
    summaries = calibrate(features, codes, vlm, settings=settings.vary(weights=SummaryWeights()))
    assert summaries.calibration.epsilon == 0 < quantiles.calibration.epsilon
    assert summaries.achieved.mean_tail_entropy == pytest.approx(true.mean_tail_entropy, abs=0.02)
    assert quantiles.achieved.mean_tail_entropy > 0.9
