"""Codebook usage by hand."""

import math

import pytest
import torch

from detokenizers.evaluation.codebook_usage import CodebookUsage


def test_usage_is_the_share_of_codes_seen_and_perplexity_is_the_exponent_of_the_entropy():
    usage = CodebookUsage.of(torch.tensor([0, 0, 1, 3]), 8)
    assert usage.counts.tolist() == [2, 1, 0, 1, 0, 0, 0, 0]
    assert usage.usage == 3 / 8
    assert usage.perplexity == pytest.approx(math.exp(0.5 * math.log(2) + 0.5 * math.log(4)))


def test_codes_used_alike_have_the_perplexity_of_their_number_and_a_single_one_has_one():
    assert CodebookUsage.of(torch.arange(16), 16).perplexity == pytest.approx(16)
    assert CodebookUsage.of(torch.full((9,), 5), 16).perplexity == 1


def test_shards_add_up_exactly():
    ids = torch.randint(32, (6, 20), generator=torch.Generator().manual_seed(0))
    merged = CodebookUsage.of(ids[:1], 32)
    merged.merge(CodebookUsage.of(ids[1:4], 32))
    merged.update(ids[4:])
    whole = CodebookUsage.of(ids, 32)
    assert torch.equal(merged.counts, whole.counts)
    assert (merged.total, merged.usage, merged.perplexity) == (120, whole.usage, whole.perplexity)


def test_ids_beyond_the_codebook_other_codebooks_and_no_tokens_are_refused():
    with pytest.raises(ValueError, match="from 0 to 7 here, got 0 to 8"):
        CodebookUsage.of(torch.tensor([0, 8]), 8)
    with pytest.raises(ValueError, match="from 0 to 7 here, got -1 to 3"):
        CodebookUsage.of(torch.tensor([-1, 3]), 8)
    with pytest.raises(ValueError, match="counts of 9 codes cannot join those of 8"):
        CodebookUsage.of(torch.tensor([1]), 8).merge(CodebookUsage.of(torch.tensor([1]), 9))
    with pytest.raises(ValueError, match="no tokens were counted"):
        CodebookUsage.of(torch.tensor([]), 8).usage  # noqa: B018
