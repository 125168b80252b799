"""The U-ViT: its published sizes, where the condition and the time enter, and what reaches what."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from detokenizers.nn.embeddings import grid_sinusoid, sinusoid
from detokenizers.nn.predictions import PredictClean, PredictVelocity
from detokenizers.nn.uvit import Block, Residual, UViT, UViTConfig, uvit_size
from detokenizers.nn.window_attention import WindowAttention
from detokenizers.protocols import Grid

TINY = UViTConfig(condition=4, widths=(8, 16), blocks=4, heads=2, radius=1, groups=4)


def net(config: UViTConfig = TINY) -> UViT:
    """A net whose zero starts are gone, as after some training."""
    torch.manual_seed(0)
    built = UViT(config)
    with torch.no_grad():
        for weight in built.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return built


def inputs(side: int = 16, grid: int = 4, config: UViTConfig = TINY) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    noisy = torch.randn(2, config.channels, side, side)
    return noisy, torch.tensor([0.3, 0.9]), torch.randn(2, config.condition, grid, grid)


def parameters(name: str, condition: int, radius: int) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in UViT(uvit_size(name, condition).vary(radius=radius)).parameters())


@pytest.mark.parametrize(
    ("name", "with_4", "with_64"),
    [
        ("S", 14_057_059, 14_126_179),
        ("B", 21_140_459, 21_209_579),
        ("M", 50_280_147, 50_383_827),
        ("L", 90_759_939, 90_863_619),
        ("XL", 161_272_835, 161_411_075),
        ("H", 362_688_003, 362_895_363),
    ],
)
def test_every_published_size_has_its_number_of_parameters(name, with_4, with_64):
    assert (parameters(name, 4, 7), parameters(name, 64, 7)) == (with_4, with_64)


def test_a_window_of_17_adds_64_numbers_a_head_and_block():
    assert parameters("M", 64, 8) - parameters("M", 64, 7) == 4 * 12 * 64


def test_m_is_the_papers_48_million_in_units_of_two_to_the_twenty():
    assert round(parameters("M", 64, 8) / 2**20) == 48


@pytest.mark.parametrize(("side", "grid", "condition", "giga"), [(256, 16, 64, 543.5), (384, 24, 12, 1250.4)])
def test_size_m_computes_what_was_counted(side, grid, condition, giga):
    with torch.device("meta"):
        model, t = UViT(uvit_size("M", condition)), torch.empty(1)
        noisy, given = torch.empty(1, 3, side, side), torch.empty(1, condition, grid, grid)
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model(noisy, t, given)
    assert counted.get_total_flops() / 1e9 == pytest.approx(giga, rel=1e-3)


def test_an_unknown_size_is_refused():
    with pytest.raises(ValueError, match="no U-ViT of size 'XXL'; there are S, B, M"):
        uvit_size("XXL", 4)


def test_at_the_start_residuals_are_their_shortcuts_and_feed_forwards_add_nothing():
    torch.manual_seed(0)
    x, context, time = torch.randn(2, 8, 4, 4), torch.randn(2, 8, 2, 2), torch.randn(2, 32)
    block = Residual(8, 8, 8, 4)
    assert torch.equal(block(x, context, time), x)
    tokens, seen = torch.randn(2, 16, 8), torch.randn(2, 16, 8)
    attends = Block(8, 8, 2, 1)
    torch.nn.init.zeros_(attends.attention.out.weight)
    torch.nn.init.zeros_(attends.attention.out.bias)
    assert torch.equal(attends(tokens, seen, Grid(4, 4)), tokens)


@pytest.mark.parametrize(("side", "grid", "patch"), [(16, 4, 1), (8, 1, 1), (24, 5, 1), (16, 4, 2), (32, 8, 4)])
def test_the_output_is_an_image_for_any_condition_grid_and_patch(side, grid, patch):
    config = TINY.vary(patch=patch)
    noisy, t, condition = inputs(side, grid)
    assert net(config)(noisy, t, condition).shape == noisy.shape


def test_condition_and_time_change_the_output():
    model, (noisy, t, condition) = net(), inputs()
    base = model(noisy, t, condition)
    assert (model(noisy, t, condition + 0.1) - base).abs().mean() > 1e-3
    assert (model(noisy, t / 2, condition) - base).abs().mean() > 1e-3


def test_a_condition_cell_mostly_changes_its_own_pixels():
    model, (noisy, t, condition) = net(), inputs()
    moved = condition.clone()
    moved[:, :, 1, 2] += 1
    change = (model(noisy, t, moved) - model(noisy, t, condition)).abs().mean((0, 1))
    own = change[4:8, 8:12].mean()
    assert own > 3 * (change.sum() - 16 * own) / (256 - 16)


def test_items_of_a_batch_do_not_mix():
    model, (noisy, t, condition) = net(), inputs()
    assert torch.allclose(model(noisy, t, condition)[1:], model(noisy[1:], t[1:], condition[1:]), atol=1e-5)


def test_attention_ends_at_the_rim_of_its_window():
    torch.manual_seed(0)
    attention, x, grid = WindowAttention(8, 2, radius=1), torch.randn(1, 16, 8), Grid(4, 4)
    torch.nn.init.normal_(attention.bias)
    near, far = x.clone(), x.clone()
    near[0, 5] += 1  # row 1, column 1
    far[0, 2] += 1  # row 0, column 2
    base = attention(x, grid)[0, 0]
    assert torch.equal(attention(far, grid)[0, 0], base)
    assert not torch.allclose(attention(near, grid)[0, 0], base)


def test_the_bias_follows_relative_positions():
    attention, grid = WindowAttention(8, 2, radius=2), Grid(4, 4)
    attention.bias.data.copy_(torch.arange(50.0).view(2, 25))
    scores = attention.scores(grid)[0, 0]
    assert scores[5, 5] == scores[10, 10] == 12  # itself, the middle of 5 x 5
    assert scores[5, 6] == scores[9, 10] == 11  # one column to the right, seen from the right
    assert scores[0, 15] == float("-inf")


def test_alignment_reads_the_features_before_the_later_blocks():
    model, (noisy, t, condition) = net(), inputs()
    model.traced(noisy, t, condition)[1].sum().backward()
    reached = {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert {name.split(".")[2] for name in reached if name.startswith("middle.blocks.")} == {"0", "1", "2"}
    assert any(name.startswith("stem.") for name in reached)
    assert any(name.startswith("down.") for name in reached)
    assert not any(name.startswith(("up.", "out.", "middle.back.")) for name in reached)


def test_the_wrong_condition_and_odd_sides_are_refused():
    model, (noisy, t, condition) = net(), inputs()
    with pytest.raises(ValueError, match="conditioned on 4 channels, not 3"):
        model(noisy, t, condition[:, :3])
    with pytest.raises(ValueError, match="multiples of 2, got 15x16"):
        model(noisy[:, :, :15], t, condition)
    with pytest.raises(ValueError, match="groups=5 does not divide"):
        UViT(TINY.vary(groups=5))


def test_a_clean_prediction_is_where_one_step_from_noise_ends():
    noise, output, t = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4), torch.ones(2)
    assert torch.allclose(noise - PredictClean()(output, noise, t), output, atol=1e-6)
    assert torch.equal(PredictVelocity()(output, noise, t), output)


def test_a_clean_prediction_of_the_truth_is_the_true_velocity_except_near_clean():
    clean, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    t = torch.tensor([0.5, 0.01])
    noisy = (1 - t.view(-1, 1, 1, 1)) * clean + t.view(-1, 1, 1, 1) * noise
    found = PredictClean(floor=0.05)(clean, noisy, t)
    assert torch.allclose(found[0], (noise - clean)[0], atol=1e-5)
    assert torch.allclose(found[1], (noise - clean)[1] / 5, atol=1e-5)


def test_sinusoids_have_cosines_first_and_rows_before_columns():
    assert torch.equal(sinusoid(torch.zeros(1), 4), torch.tensor([[1.0, 1, 0, 0]]))
    assert torch.allclose(
        sinusoid(torch.tensor([2.0]), 2), torch.tensor([[2.0]]).new_tensor([[-0.41615, 0.90930]]), atol=1e-5
    )
    cells = grid_sinusoid(Grid(2, 3), 8)
    assert torch.equal(cells[0, :4], cells[2, :4])  # one row
    assert torch.equal(cells[1, 4:], cells[4, 4:])  # one column
    with pytest.raises(ValueError, match="divide by 4, not 6"):
        grid_sinusoid(Grid(2, 2), 6)
