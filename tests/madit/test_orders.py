"""Round sizes, orders, ties, guidance weights: integers that can be checked by hand."""

from __future__ import annotations

import pytest
import torch

from detokenizers.madit.orders import (
    PATCH_KL,
    AtRandom,
    CodewordKL,
    CodewordVariance,
    ConstantWeight,
    LinearWeight,
    Order,
    PosteriorKL,
    Raster,
    RasterTies,
    ScatteredTies,
    SeededTies,
    num_masked,
    ranked,
    reveal,
    round_sizes,
)
from detokenizers.protocols import Grid, VisualTokens

from . import tiny


def test_round_sizes_of_the_paper():
    sizes = round_sizes(1024, 64)
    assert sizes[:16] == [1, 1, 1, 2, 3, 4, 4, 4, 5, 6, 7, 7, 7, 8, 9, 9]
    assert sizes[-7:] == [25] * 7
    assert max(sizes) == 25
    assert round_sizes(1024, 16)[:3] == [5, 15, 25]
    assert round_sizes(1024, 16)[-1] == 100
    assert round_sizes(1024, 1) == [1024]


def test_every_round_draws_and_all_patches_are_drawn():
    for patches in range(1, 70):
        for rounds in range(1, patches + 1):
            sizes = round_sizes(patches, rounds)
            assert len(sizes) == rounds
            assert min(sizes) >= 1
            assert sum(sizes) == patches


@pytest.mark.parametrize("rounds", [0, 5])
def test_more_rounds_than_patches_are_refused(rounds):
    with pytest.raises(ValueError, match=f"4 patches can be drawn in 1 to 4 rounds, not in {rounds}"):
        round_sizes(4, rounds)


def test_an_order_ascends_per_image_and_ties_follow_their_rank():
    score = torch.tensor([[3.0, 1.0, 2.0, 1.0], [0.0, 5.0, 0.0, 4.0]])
    assert ranked(score, torch.tensor([0, 1, 2, 3])).tolist() == [[1, 3, 2, 0], [0, 2, 3, 1]]
    assert ranked(score, torch.tensor([3, 2, 1, 0])).tolist() == [[3, 1, 2, 0], [2, 0, 3, 1]]
    assert ranked(torch.zeros(1, 4), torch.tensor([2, 0, 3, 1])).tolist() == [[1, 3, 0, 2]]


def test_scattered_ties_visit_every_quarter_before_any_twice():
    ranks = ScatteredTies()(Grid(8, 8))
    assert sorted(ranks.tolist()) == list(range(64))
    first = ranks.argsort()
    for count, side in ((4, 4), (16, 2)):
        rows, columns = first[:count] // 8, first[:count] % 8
        assert len({(int(r) // side, int(c) // side) for r, c in zip(rows, columns)}) == count
    assert len(set((first[:8] % 8).tolist())) > 1, "raster bits would fill column 0 with these"
    assert ScatteredTies()(Grid(4, 4)).argsort().tolist() == [0, 2, 8, 10, 1, 3, 9, 11, 4, 6, 12, 14, 5, 7, 13, 15]
    assert sorted(ScatteredTies()(Grid(3, 5)).tolist()) == list(range(15))


def test_other_ties():
    assert RasterTies()(Grid(2, 2)).tolist() == [0, 1, 2, 3]
    assert sorted(SeededTies(seed=3)(Grid(4, 4)).tolist()) == list(range(16))
    assert SeededTies(seed=3)(Grid(4, 4)).tolist() != SeededTies(seed=4)(Grid(4, 4)).tolist()


def test_rounds_are_slices_of_one_order():
    order = torch.stack([torch.randperm(16), torch.randperm(16)])
    rounds = list(reveal(order, 5))
    assert torch.equal(torch.cat([one.chosen for one in rounds], 1), order)
    for number, one in enumerate(rounds):
        assert torch.equal(one.visible, torch.cat([before.chosen for before in rounds[:number]] or [order[:, :0]], 1))


def test_weights_by_hand():
    linear = LinearWeight(weight=3.0)
    assert [linear(revealed, 1024) for revealed in (1, 512, 1024)] == [1.001953125, 2.0, 3.0]
    assert [ConstantWeight(weight=3.0)(revealed, 1024) for revealed in (1, 1024)] == [3.0, 3.0]


def test_masks_round_up_and_reach_all_patches():
    assert num_masked(1024, 0.7) == 717
    assert num_masked(1024, 0.9991) == 1024
    assert num_masked(10, 1.0) == 10
    assert [num_masked(10, ratio) for ratio in (0.7, 0.71, 0.8)] == [7, 8, 8]


@pytest.fixture
def made(vae):
    tokenizer = tiny.tokenizer(vae, stride=2)
    images = tiny.images(3, seed=9)
    under = tokenizer.layout.by_token(tokenizer.read(images).kl)
    return tokenizer, VisualTokens(tokenizer.tokens(tokenizer.features(images)), tokenizer.grid, {PATCH_KL: under})


@pytest.mark.parametrize(("score", "table"), [(CodewordKL(), "kl"), (CodewordVariance(), "variance")])
def test_codeword_orders_follow_their_tables(made, score, table):
    tokenizer, tokens = made
    order = Order(score=score)(tokenizer, tokens, range(3))
    values = getattr(tokenizer.codewords, table)[tokens.ids]
    for image in range(3):
        by_patch = [
            float(values[image, tokenizer.layout.cell[patch], tokenizer.layout.part[patch]]) for patch in order[image]
        ]
        assert by_patch == sorted(by_patch)
    hardest_first = Order(score=score, descending=True)(tokenizer, tokens, range(3))
    assert not torch.equal(order, hardest_first)
    assert float(values[0, tokenizer.layout.cell[hardest_first[0, 0]]].max()) == float(values[0].max())


def test_the_posterior_order_is_of_the_image_and_refuses_tokens_without_one(made):
    tokenizer, tokens = made
    kl = tokenizer.read(tiny.images(3, seed=9)).kl
    order = Order(score=PosteriorKL())(tokenizer, tokens, range(3))
    assert torch.equal(order, kl.argsort(-1))
    with pytest.raises(ValueError, match="needs the image"):
        PosteriorKL()(tokenizer, VisualTokens(tokens.ids, tokens.grid, {}), range(3))


def test_random_orders_belong_to_the_seed_and_the_raster_to_nobody(made):
    tokenizer, tokens = made
    one, two = (Order(score=AtRandom())(tokenizer, tokens, seeds) for seeds in ([5, 6, 7], [7, 6, 5]))
    assert torch.equal(one, two.flip(0))
    assert not torch.equal(one[0], one[1])
    assert Order(score=Raster())(tokenizer, tokens, range(3))[1].tolist() == list(range(16))
