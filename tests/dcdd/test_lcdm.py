"""LCDM against the golden numbers of the spec (L1-L12), and what must hold for every distribution."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from torch.nn import functional as F

from detokenizers.dcdd.calibration import Calibration, Observer, observe_rows, proxy_features
from detokenizers.dcdd.lcdm import (
    LCDM,
    Committed,
    Direction,
    Expectation,
    HardCodes,
    SampledMix,
    expected_codes,
    probabilities,
)
from detokenizers.dcdd.token_statistics import normalized_entropy
from detokenizers.nn.ranking import entropy, largest, ranked
from detokenizers.nn.uncertainty import UncertaintyConfig, adaptive_k, uncertainty

K = 16384
SQUARE = torch.tensor([(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)])
FOUR = torch.tensor([0.5, 0.25, 0.125, 0.125])
CIRCLE = torch.tensor([(math.cos(k * math.pi / 8), math.sin(k * math.pi / 8)) for k in range(16)])
HALVING = torch.tensor([-k * math.log(2) for k in range(16)])


def close(found, expected, atol=1e-5):
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), atol=atol, rtol=0)


def random_codebook(v=64, d=8, seed=0):
    return F.normalize(torch.randn(v, d, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_four_codes_by_hand():  # L1, L2
    config = UncertaintyConfig(k_range=(2, 3), k_tail=2)
    close(expected_codes(FOUR, SQUARE), [0.375, 0.125])
    close(uncertainty(FOUR, config), [0.5, 0.25, 0.875, 1.0])
    close(normalized_entropy(FOUR), 0.875)
    assert adaptive_k(entropy(FOUR), 4, config) == 3
    close(entropy(FOUR).exp(), 3.363586)
    close(uncertainty(FOUR, config.vary(k_tail=1))[3], 0.946395)


@pytest.mark.parametrize("mode", ["perplexity", "linear"])
def test_halving_probabilities_by_hand(mode):  # L3
    p, config = probabilities(HALVING), UncertaintyConfig(k_range=(2, 6), k_tail=3, k_mode=mode)
    close(expected_codes(p, CIRCLE), [0.824941, 0.293360])
    close(uncertainty(p, config), [0.500008, 0.250004, 0.937514, 0.540000])
    close(normalized_entropy(p), 0.499933)
    assert adaptive_k(entropy(p), 16, config) == 4


def test_smoothed_halving_probabilities_by_hand():  # L4
    p, config = Calibration(epsilon=0.1)(HALVING), UncertaintyConfig(k_range=(2, 6), k_tail=3)
    close(expected_codes(p, CIRCLE), [0.742447, 0.264024])
    close(uncertainty(p, config), [0.456257, 0.225003, 0.903138, 0.846493])
    close(normalized_entropy(p), 0.608918)
    assert adaptive_k(entropy(p), 16, config) == 5
    assert adaptive_k(entropy(p), 16, config.vary(k_mode="linear")) == 4
    close(uncertainty(p, config.vary(k_mode="linear"))[2], 0.868763)


def test_a_uniform_distribution_is_all_tail():  # L5
    p = torch.full((K,), 1 / K)
    close(uncertainty(p), [1 / K, 0, 64 / K, 1], atol=1e-6)
    close(normalized_entropy(p), 1.0)
    assert adaptive_k(entropy(p), K, UncertaintyConfig()) == 64


def test_a_one_hot_distribution_is_the_code_row():  # L6
    codes = random_codebook(K)
    p = F.one_hot(torch.tensor(77), K).float()
    close(uncertainty(p), [1, 1, 1, 0], atol=0)
    close(expected_codes(p, codes), codes[77], atol=1e-7)
    close(normalized_entropy(p), 0.0, atol=1e-7)
    assert adaptive_k(entropy(p), K, UncertaintyConfig()) == 8


def test_a_distribution_spread_over_twenty_codes():  # L7
    p = F.pad(torch.full((20,), 0.05), (0, K - 20))
    close(uncertainty(p), [0.05, 0, 1.0, 0.237296])
    close(normalized_entropy(p), 0.308709)
    assert adaptive_k(entropy(p), K, UncertaintyConfig()) == 20
    assert adaptive_k(entropy(p), K, UncertaintyConfig(k_mode="linear")) == 25
    close(uncertainty(p, UncertaintyConfig(k_mode="linear"))[2], 1.0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.floats(-30, 30), scale=st.floats(0.1, 20))
def test_the_order_of_the_codes_and_a_constant_do_not_matter(seed, shift, scale):  # L8
    generator = torch.Generator().manual_seed(seed)
    logits, codes = scale * torch.randn(3, 64, generator=generator), random_codebook(seed=seed)
    order = torch.randperm(64, generator=generator)
    lcdm, sampled = Expectation(), torch.zeros(3, dtype=torch.long)
    straight = lcdm(probabilities(logits), sampled, codes)
    close(lcdm(probabilities(logits[:, order]), sampled, codes[order]), straight)
    close(lcdm(probabilities(logits + shift), sampled, codes), straight, atol=3e-5)


@pytest.mark.parametrize("floor", [0.0, 1e-6])
def test_a_confident_row_keeps_an_exact_tail_in_fp32(floor):  # L9
    logits = torch.randn(8, K, generator=torch.Generator().manual_seed(0))
    logits[:, 5] += 25
    config = UncertaintyConfig(tail_mass_floor=floor)
    single, double = uncertainty(probabilities(logits), config), uncertainty(probabilities(logits.double()), config)
    assert double.dtype == torch.float64
    close(single.double(), double, atol=1e-4)
    if floor == 0:
        assert (double[:, 3] > 0.9).all()
        assert (double[:, 3] < 1).all()


@pytest.mark.parametrize("reading", [Expectation(), Direction(), HardCodes(), Committed(), SampledMix(gamma=0.3)])
def test_beliefs_of_whole_images_are_read_as_those_of_their_tokens(reading):
    p = (3 * torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(3))).softmax(-1)
    ids, codes = torch.arange(10).view(2, 5), random_codebook()
    close(reading(p, ids, codes).flatten(0, 1), reading(p.flatten(0, 1), ids.flatten(), codes), atol=1e-6)


@pytest.mark.parametrize(("mass", "tail"), [(0.0, 0.0), (5e-7, 0.0), (2e-6, 1.0), (0.5, 1.0)])
def test_a_tail_of_less_than_a_millionth_counts_as_empty(mass, tail):
    """Ten codes share the head evenly and 54 the tail, so the tail's entropy is 1 wherever it counts."""
    p = torch.cat([torch.full((10,), (1 - mass) / 10), torch.full((54,), mass / 54)]).double()
    close(uncertainty(p)[3], tail)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.1, 6))
def test_entropy_splits_into_head_and_tail(seed, scale):  # L10
    logits = scale * torch.randn(64, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    p, k = logits.softmax(-1), 10
    tail = uncertainty(p, UncertaintyConfig(k_tail=k, tail_mass_floor=0.0))[3] * math.log(64 - k)
    head = p.sort(descending=True).values[:k]
    mass = head.sum()
    binary = entropy(torch.stack([mass, 1 - mass]))
    close(binary + mass * entropy(head / mass) + (1 - mass) * tail, entropy(p), atol=1e-9)


def test_step_by_step_equals_whole_sequences(monkeypatch):  # L11
    generator, codes = torch.Generator().manual_seed(1), random_codebook(512)
    logits = 3 * torch.randn(2, 7, 512, generator=generator)
    ids = torch.randint(512, (2, 7), generator=generator)
    calibration = Calibration(kappa=27, epsilon=0.01)
    for lcdm in (Expectation(), HardCodes(), Committed(), SampledMix(gamma=0.3)):
        observe = Observer(lcdm, codes, calibration)
        online = torch.stack([observe(logits[:, i], ids[:, i]) for i in range(7)], 1)
        assert online.shape == (2, 7, lcdm.num_features(8))
        for chunk in (1, 4, 100):
            monkeypatch.setattr("detokenizers.dcdd.calibration.rows_at_a_time", lambda v, device, most=chunk: most)
            close(observe_rows(logits, calibration.on_vlm, lcdm, codes, ids), online, atol=1e-6)


def test_adaptive_k_at_the_entropies_of_table_1():  # L12
    nats = torch.tensor([0, 0.415303, 0.99363, 1]) * math.log(K)
    assert adaptive_k(nats, K, UncertaintyConfig(k_mode="linear")).tolist() == [8, 31, 64, 64]
    assert adaptive_k(nats, K, UncertaintyConfig()).tolist() == [8, 56, 64, 64]
    assert adaptive_k(nats, K, UncertaintyConfig(k_mode="fixed")).tolist() == [64] * 4


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    v=st.integers(3, 200),
    scale=st.floats(0, 60),
    k_tail=st.sampled_from([1, 2, 10, 150, "adaptive"]),
)
def test_every_distribution_is_described_by_finite_numbers_in_range(seed, v, scale, k_tail):
    logits = scale * torch.randn(4, v, generator=torch.Generator().manual_seed(seed))
    p, codes = probabilities(logits), random_codebook(v, 4, seed)
    u = uncertainty(p, UncertaintyConfig(k_tail=k_tail))
    assert torch.isfinite(u).all()
    assert ((u >= 0) & (u <= 1)).all()
    assert (expected_codes(p, codes).norm(dim=-1) <= 1 + 1e-5).all()


def test_the_adaptive_tail_leaves_out_the_adaptive_head():
    p = probabilities(torch.randn(5, 256, generator=torch.Generator().manual_seed(3)))
    k = adaptive_k(entropy(p), 256, UncertaintyConfig())
    for row, cut, u in zip(p, k, uncertainty(p, UncertaintyConfig(k_tail="adaptive")), strict=True):
        close(uncertainty(row, UncertaintyConfig(k_tail=int(cut))), u, atol=1e-6)


def test_filtered_logits_are_understood():
    logits = torch.randn(K, generator=torch.Generator().manual_seed(0))
    kept = logits.where(logits >= logits.topk(50).values[-1], -torch.inf)
    few = uncertainty(probabilities(logits.topk(50).values))
    close(uncertainty(probabilities(kept))[:3], few[:3])


def test_half_precision_logits_are_read_in_fp32():
    logits = torch.randn(3, 512, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert torch.equal(probabilities(logits), logits.float().softmax(-1))


@pytest.mark.parametrize(("v", "k"), [(K, 64), (4096, 64), (1024, 8), (1000, 64), (5, 3)])
def test_the_largest_entries_are_those_of_topk(v, k):
    p = torch.rand(6, v, generator=torch.Generator().manual_seed(v))
    p[0] = 0.5  # ties everywhere
    p[1, :k] = 2.0  # all of them in neighbouring columns
    values, where = largest(p, k)
    assert torch.equal(values, p.topk(k).values)
    assert torch.equal(p.gather(-1, where), values)
    assert all(len(row.unique()) == k for row in where)


def test_the_rest_is_summed_even_when_it_is_tiny():
    p = torch.cat([torch.tensor([1.0]), torch.full((999,), 1e-12)])
    cut = ranked(p, 4)
    close(cut.rest_mass * 1e12, 996.0, atol=1e-3)


def test_hard_codes_are_the_expectation_of_a_one_hot_distribution():
    codes, ids = random_codebook(128), torch.tensor([3, 70])
    one_hot = F.one_hot(ids, 128).float()
    close(HardCodes()(one_hot, ids, codes), Expectation()(one_hot, ids, codes), atol=1e-7)


def test_a_direction_is_the_expectation_without_its_length():
    codes, ids = random_codebook(128), torch.zeros(3, dtype=torch.long)
    p = torch.randn(3, 128, generator=torch.Generator().manual_seed(1)).mul(3).softmax(-1)
    direction, expectation = Direction()(p, ids, codes), Expectation()(p, ids, codes)
    assert direction.shape[-1] == Direction().num_features(8)
    close(direction[:, :8].norm(dim=-1), [1.0, 1.0, 1.0])
    close(direction[:, :8] * expectation[:, :8].norm(dim=-1, keepdim=True), expectation[:, :8], atol=1e-6)
    assert torch.equal(direction[:, 8:], expectation[:, 8:])


def test_hard_codes_do_not_look_at_the_distribution():
    codes, ids = random_codebook(128), torch.tensor([3, 70])
    assert torch.equal(HardCodes()(torch.rand(2, 128), ids, codes), HardCodes()(torch.rand(2, 128), ids, codes))


def test_a_committed_lcdm_adds_up_to_the_expectation():
    codes, ids = random_codebook(128), torch.tensor([3, 70])
    p = probabilities(torch.randn(2, 128, generator=torch.Generator().manual_seed(0)))
    committed, expectation = Committed()(p, ids, codes), Expectation()(p, ids, codes)
    close(committed[:, :8], codes[ids], atol=0)
    close(committed[:, :8] + committed[:, 8:16], expectation[:, :8], atol=1e-6)
    close(committed[:, 16:], expectation[:, 8:], atol=0)


def test_mixing_in_the_sampled_token_goes_from_expectation_to_hard_codes():
    codes, ids = random_codebook(128), torch.tensor([3, 70])
    p = probabilities(torch.randn(2, 128, generator=torch.Generator().manual_seed(0)))
    read = partial(lambda lcdm: lcdm(p, ids, codes))
    close(read(SampledMix(gamma=0)), read(Expectation()), atol=0)
    close(read(SampledMix(gamma=1)), read(HardCodes()), atol=1e-6)
    half = read(SampledMix(gamma=0.5))[:, :8]
    close(half, (read(Expectation()) + read(HardCodes()))[:, :8] / 2, atol=1e-6)


def test_features_are_summarised_at_their_vq_tokens():
    codes = random_codebook(64)
    features = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    tokens = (F.normalize(features, dim=-1) @ codes.T).argmax(-1)
    calibration = Calibration(kappa=27)
    observed = proxy_features(features, calibration, HardCodes(), codes)
    close(observed[..., :8], codes[tokens], atol=0)
    close(
        proxy_features(features, calibration, Committed(), codes, tokens),
        proxy_features(features, calibration, Committed(), codes),
        atol=1e-5,
    )


@pytest.mark.parametrize("lcdm", [Expectation(), Direction(), HardCodes(), Committed(), SampledMix(gamma=0.2)])
def test_an_lcdm_survives_its_own_yaml(lcdm):
    assert TypeAdapter(LCDM).validate_python(lcdm.model_dump(mode="json")) == lcdm


def test_a_codebook_that_does_not_fit_the_logits_is_named():
    with pytest.raises(ValueError, match="64 codes but the logits have 16"):
        expected_codes(torch.rand(2, 16), random_codebook(64))


def test_a_codebook_that_is_not_normalised_is_refused():
    with pytest.raises(ValueError, match="unit norm"):
        Observer(Expectation(), 2 * random_codebook(16))


def test_impossible_cuts_are_refused():
    with pytest.raises(ValidationError, match="k_range"):
        UncertaintyConfig(k_range=(9, 8))
    with pytest.raises(ValidationError, match="k_tail"):
        UncertaintyConfig(k_tail=0)
    with pytest.raises(ValueError, match="at least 3 codes"):
        uncertainty(torch.tensor([0.5, 0.5]))
