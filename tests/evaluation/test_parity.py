"""Distances of sets as torch-fidelity computes them (see scripts/parity_references.py); shards change nothing."""

from pathlib import Path

import pytest
import torch

from detokenizers.checkpoint import load_tensors
from detokenizers.evaluation.frechet import frechet
from detokenizers.evaluation.kernel import discrepancy, kernel_distance
from detokenizers.evaluation.moments import Moments
from tests.pretrained.fixed_weights import feature_sets

GOLDEN = load_tensors(Path(__file__).parents[1] / "pretrained" / "golden" / "set_distances.safetensors")


def test_the_frechet_distance_equals_torch_fidelitys_fid_of_the_same_features():
    real, drawn = feature_sets()
    found = frechet(Moments.of(drawn), Moments.of(real))
    assert found == pytest.approx(GOLDEN["frechet"].item(), abs=1e-3)
    assert found == pytest.approx(GOLDEN["frechet"].item(), rel=1e-5)


def test_the_kernel_distance_equals_torch_fidelitys_of_the_same_subset():
    real, drawn = (features[:300].double() for features in feature_sets())
    assert discrepancy(real, drawn).item() == pytest.approx(GOLDEN["discrepancy"].item(), rel=1e-9)
    whole = kernel_distance(real, drawn, num_subsets=1, subset_size=300).value
    assert whole == pytest.approx(GOLDEN["discrepancy"].item(), rel=1e-9)


@pytest.mark.parametrize("shards", [2, 7, 400])
def test_merged_shards_give_the_distance_of_one_pass(shards):
    real, drawn = feature_sets()
    merged = Moments("")
    for part in real.tensor_split(shards):
        merged.merge(Moments.of(part))
    expected = frechet(Moments.of(drawn), Moments.of(real))
    assert frechet(Moments.of(drawn), merged) == pytest.approx(expected, abs=1e-9)
    torch.testing.assert_close(merged.covariance(), Moments.of(real).covariance(), atol=1e-9, rtol=0)
