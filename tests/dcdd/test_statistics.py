"""Otsu, entropies and Table 1 statistics against the golden numbers of the spec (O1, O2, R1, R2)."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from detokenizers.dcdd.calibrate import encoder_statistics
from detokenizers.dcdd.calibration import Calibration
from detokenizers.dcdd.token_statistics import (
    TokenStatistics,
    between_class_variance,
    normalized_entropy,
    otsu_exact,
    otsu_hist256,
)
from detokenizers.nn.uncertainty import uncertainty

K = 16384


def unit(n, d=8, seed=0):
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=-1)


def distributions(n=40, v=64, seed=0):
    return (2 * torch.randn(n, v, generator=torch.Generator().manual_seed(seed))).softmax(-1)


def test_otsu_by_hand():  # O1
    curve = torch.tensor([0.5, 0.3, 0.1, 0.05, 0.03, 0.02])
    variance, _ = between_class_variance(curve)
    assert variance[:3].tolist() == pytest.approx([0.022222, 0.027222, 0.017778], abs=1e-6)
    assert [x.item() for x in otsu_exact(curve)] == pytest.approx([2, 0.225, 0.8])
    assert [x.item() for x in otsu_exact(curve, weigh_by_mass=True)] == pytest.approx([1, 0.3, 0.5])


def test_otsu_of_one_peak_over_a_plateau():  # O2
    curve = torch.tensor([0.4] + 12 * [0.05])
    assert [x.item() for x in otsu_exact(curve)] == pytest.approx([1, 0.225, 0.4])
    assert [x.item() for x in otsu_hist256(curve)][::2] == pytest.approx([1, 0.4])


def test_otsu_reads_many_rows_as_it_reads_one():
    curves = distributions(6).sort(-1, descending=True).values
    together = otsu_exact(curves)
    for i, curve in enumerate(curves):
        assert [x.item() for x in otsu_exact(curve)] == pytest.approx([x[i].item() for x in together])


@pytest.mark.parametrize("seed", range(4))
def test_histogram_otsu_is_scikit_image_s(seed):
    threshold_otsu = pytest.importorskip("skimage.filters").threshold_otsu
    curve = distributions(1, 500, seed)[0].double().sort(descending=True).values
    expected = threshold_otsu(curve.numpy(), nbins=256)
    found = otsu_hist256(curve)
    assert found.threshold.item() == pytest.approx(float(expected))
    assert found.rank == (curve > expected).sum()


def test_the_paper_s_own_flat_softmax():  # R2
    scores = torch.zeros(K, dtype=torch.float64)
    scores[0] = 1
    p = Calibration()(scores)
    assert p[0].item() == pytest.approx(1.658934e-4, rel=1e-6)
    assert p[1].item() == pytest.approx(6.102876e-5, rel=1e-6)


def test_raw_cosines_of_random_codes_look_like_the_paper_s_raw_encoder():  # R1
    table = encoder_statistics(unit(128, seed=1), unit(K)).table1()
    assert table["normalized_entropy"] == pytest.approx(0.9937, abs=2e-4)
    assert table["top1"] == pytest.approx(1.48e-4, abs=3e-6)
    assert table["otsu_rank"] == pytest.approx(5720, abs=40)
    assert table["otsu_threshold"] == pytest.approx(6.67e-5, abs=1e-7)
    assert table["head_mass"] == pytest.approx(0.489, abs=2e-3)
    assert table["otsu_rank_by_mass"] == pytest.approx(3330, abs=40)
    assert table["tail_entropy"] - table["normalized_entropy"] == pytest.approx(31.8e-6, abs=2e-6)


def test_statistics_do_not_depend_on_how_tokens_arrive():
    p, ids, codes = distributions(), torch.arange(40), unit(64)
    whole, pieces = TokenStatistics(codes), TokenStatistics(codes)
    whole.update(p.view(4, 10, 64), ids.view(4, 10))
    for part, drawn in zip(p.split(7), ids.split(7), strict=True):
        pieces.update(part, drawn)
    assert whole.num_tokens == pieces.num_tokens == 40
    assert whole.table1() == pytest.approx(pieces.table1(), abs=1e-6)
    assert whole.targets().model_dump() == pytest.approx(pieces.targets().model_dump(), abs=1e-6)
    assert whole.geometry() == pytest.approx(pieces.geometry(), abs=1e-6)


def test_targets_pool_all_tokens():
    p = distributions()
    statistics = TokenStatistics()
    statistics.update_logits(p.log())
    targets, confidence, entropies = statistics.targets(), p.amax(-1), normalized_entropy(p)
    assert targets.mean_confidence == pytest.approx(confidence.mean().item(), abs=1e-6)
    assert targets.q95_confidence == pytest.approx(np.quantile(confidence.numpy(), 0.95), abs=1e-6)
    assert targets.mean_entropy == pytest.approx(entropies.mean().item(), abs=1e-6)
    assert targets.q95_entropy == pytest.approx(np.quantile(entropies.numpy(), 0.95), abs=1e-6)
    assert targets.num_tokens == 40


def test_entropy_is_normalised_by_the_codebook_size():
    assert normalized_entropy(torch.tensor([0.5, 0.5, 0.0, 0.0])).item() == pytest.approx(math.log(2) / math.log(4))


def test_head_mass_is_read_off_the_mean_sorted_curve():
    p = distributions()
    statistics = TokenStatistics()
    statistics.update(p)
    table, curve = statistics.table1(), p.sort(-1, descending=True).values.double().mean(0)
    torch.testing.assert_close(statistics.mean_curve(30), curve[:30])
    assert table["top2"] == pytest.approx(curve[1].item())
    assert table["head_mass"] == pytest.approx(curve[: int(table["otsu_rank"])].sum().item())


def test_a_column_of_table_1_holds_the_means_of_the_uncertainty_features():
    p, statistics = distributions(), TokenStatistics()
    statistics.update(p)
    table, u = statistics.table1(), uncertainty(p).double().mean(0).tolist()
    assert [table[name] for name in ("top1", "margin", "topk_mass", "tail_entropy")] == pytest.approx(u, abs=1e-6)
    assert table["normalized_entropy"] == pytest.approx(normalized_entropy(p).mean().item(), abs=1e-6)


def test_an_encoder_s_expected_code_points_at_its_own_token_and_a_guess_may_not():
    codes, features = unit(256), unit(200, seed=1)
    encoder = encoder_statistics(features, codes, Calibration(kappa=30)).geometry()
    guess = TokenStatistics(codes)
    p = Calibration(kappa=30).proxy(features, codes)
    guess.update(p, torch.multinomial(p, 1, generator=torch.Generator().manual_seed(0))[:, 0])
    assert encoder["cosine_to_sampled"] > guess.geometry()["cosine_to_sampled"]
    assert encoder["expected_code_norm"] == pytest.approx(guess.geometry()["expected_code_norm"])
    assert encoder["sampled_probability"] > guess.geometry()["sampled_probability"]


def test_logits_given_as_probabilities_are_refused():
    with pytest.raises(ValueError, match="sum to one"):
        TokenStatistics().update(torch.randn(3, 64))
    with pytest.raises(ValueError, match="sum to one"):
        TokenStatistics().update_logits(torch.full((3, 64), float("nan")))


def test_statistics_of_nothing_are_refused():
    with pytest.raises(ValueError, match="no token"):
        TokenStatistics().targets()
    statistics = TokenStatistics()
    statistics.update(distributions())
    with pytest.raises(ValueError, match="geometry gap needs"):
        statistics.geometry()


def test_two_codebook_sizes_do_not_mix():
    statistics = TokenStatistics()
    statistics.update(distributions(v=64))
    with pytest.raises(ValueError, match="over 32 codes, those before over 64"):
        statistics.update(distributions(v=32))
