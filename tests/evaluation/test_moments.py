"""Moments: however the images are dealt out to processes, the answer is the same."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detokenizers.checkpoint import save_tensors
from detokenizers.evaluation.moments import Moments


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(0)
    return 100 + torch.randn(60, 7, generator=generator) @ torch.randn(7, 7, generator=generator)


def test_moments_are_the_sample_mean_and_covariance(features):
    moments = Moments.of(features)
    torch.testing.assert_close(moments.mean, features.double().mean(0))
    torch.testing.assert_close(moments.covariance(), features.double().T.cov(), rtol=1e-10, atol=1e-10)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 59), max_size=5, unique=True))
def test_merged_shards_equal_one_pass(cuts):
    features = 1000 + torch.randn(60, 5, generator=torch.Generator().manual_seed(1))
    whole, merged = Moments.of(features), Moments("")
    for shard in features.tensor_split(sorted(cuts)):
        merged.merge(Moments.of(shard))
    assert merged.count == 60
    torch.testing.assert_close(merged.mean, whole.mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(merged.scatter, whole.scatter, rtol=0, atol=1e-9)


def test_an_empty_shard_changes_nothing(features):
    moments = Moments.of(features)
    before = moments.scatter.clone()
    moments.merge(Moments(""))
    assert moments.count == 60
    assert torch.equal(moments.scatter, before)


def test_saved_moments_come_back_bit_for_bit(features, tmp_path):
    moments = Moments.of(features, "world:abc")
    moments.save(tmp_path / "reference.safetensors")
    again = Moments.load(tmp_path / "reference.safetensors")
    assert (again.extractor, again.count) == ("world:abc", 60)
    assert torch.equal(again.mean, moments.mean)
    assert torch.equal(again.scatter, moments.scatter)


def test_a_file_of_other_tensors_is_refused(tmp_path):
    save_tensors(tmp_path / "weights.safetensors", {"weight": torch.zeros(3)})
    with pytest.raises(ValueError, match="does not hold saved moments; it holds weight"):
        Moments.load(tmp_path / "weights.safetensors")


def test_different_extractors_refuse_to_meet(features):
    with pytest.raises(ValueError, match="different extractors"):
        Moments.of(features, "world:1").merge(Moments.of(features, "world:2"))


def test_nan_features_are_refused(features):
    features[3, 2] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        Moments.of(features)


def test_one_image_has_no_covariance(features):
    with pytest.raises(ValueError, match="at least two images, got 1"):
        Moments.of(features[:1]).covariance()
