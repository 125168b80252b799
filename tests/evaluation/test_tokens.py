"""Codebook usage by hand."""

import math

import pytest
import torch

from detokenizers.evaluation.tokens import counted
from detokenizers.nn.codebook import perplexity, usage


def test_usage_is_the_share_of_codes_seen_and_perplexity_is_the_exponent_of_the_entropy():
    counts = counted(torch.tensor([[0, 0], [1, 3]]), 8)
    assert counts.tolist() == [2, 1, 0, 1, 0, 0, 0, 0]
    assert usage(counts) == 3 / 8
    assert perplexity(counts) == pytest.approx(math.exp(0.5 * math.log(2) + 0.5 * math.log(4)))


def test_codes_used_alike_have_the_perplexity_of_their_number_and_a_single_one_has_one():
    assert perplexity(counted(torch.arange(16), 16)) == pytest.approx(16)
    assert perplexity(counted(torch.full((9,), 5), 16)) == 1


def test_ids_beyond_the_codebook_are_refused():
    with pytest.raises(ValueError, match="from 0 to 7 here, got 0 to 8"):
        counted(torch.tensor([0, 8]), 8)
    with pytest.raises(ValueError, match="from 0 to 7 here, got -1 to 3"):
        counted(torch.tensor([-1, 3]), 8)
