"""Drawing by one uniform number per token."""

from __future__ import annotations

import torch

from detokenizers.nn.sampling import draw, uniforms


def test_a_seed_gives_the_same_numbers_in_any_company():
    together, alone = uniforms([3, 1, 3], 50), uniforms([1], 50)
    assert torch.equal(together[1], alone[0])
    assert torch.equal(together[0], together[2])
    assert not torch.equal(together[0], together[1])


def test_the_numbers_are_independent_of_noise_made_with_the_same_seed():
    ours = uniforms([0], 4000)[0]
    theirs = torch.rand(4000, generator=torch.Generator().manual_seed(0))
    assert torch.corrcoef(torch.stack([ours, theirs]))[0, 1].abs() < 0.06
    assert 0 <= ours.min() <= ours.max() < 1


def test_codes_are_drawn_as_often_as_they_are_likely():
    p = torch.tensor([0.1, 0.0, 0.6, 0.3])
    ids = draw(p.log().expand(20000, 4), uniforms([7], 20000)[0])
    counts = torch.bincount(ids, minlength=4) / 20000
    torch.testing.assert_close(counts, p, atol=0.015, rtol=0)
    assert counts[1] == 0


def test_the_extremes_of_u_draw_the_first_and_last_possible_code():
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]])
    assert draw(logits, torch.tensor([0.0])).item() == 1
    assert draw(logits, torch.tensor([1 - 2**-22])).item() == 2
    large = torch.randn(64, 16384, generator=torch.Generator().manual_seed(0)) * 3
    assert draw(large, torch.full((64,), 1 - 2**-22)).max() < 16384


def test_top_k_keeps_the_k_likeliest_codes_in_proportion():
    p = torch.tensor([0.4, 0.1, 0.3, 0.2])
    ids = draw(p.log().expand(20000, 4), uniforms([8], 20000)[0], top_k=2)
    counts = torch.bincount(ids, minlength=4) / 20000
    torch.testing.assert_close(counts, torch.tensor([4 / 7, 0, 3 / 7, 0]), atol=0.015, rtol=0)
    assert torch.equal(draw(p.log()[None], torch.tensor([0.5]), top_k=9), draw(p.log()[None], torch.tensor([0.5])))


def test_top_k_keeps_all_that_tie_with_the_last_as_llamagen_does():
    logits = torch.tensor([2.0, 0.0, 1.0, 1.0, 1.0]).expand(20000, 5)
    removed = logits[:1] < torch.topk(logits[:1], 2)[0][..., -1, None]
    expected = logits[0].masked_fill(removed[0], -torch.inf).softmax(-1)
    counts = torch.bincount(draw(logits, uniforms([9], 20000)[0], top_k=2), minlength=5) / 20000
    torch.testing.assert_close(counts, expected, atol=0.015, rtol=0)
    assert (counts > 0).tolist() == [True, False, True, True, True]
