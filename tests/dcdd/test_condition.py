"""The condition map of Eqs. 19-20 (spec F3, F10, F12)."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from detokenizers.dcdd.condition import CondConfig, CondEncoder, OnLatents, OnTokens
from detokenizers.pretrained.flux.inputs import pack
from detokenizers.protocols import Grid

D = 8


def encoder(num_features: int = D + 4, **changes) -> CondEncoder:
    torch.manual_seed(0)
    return CondEncoder(CondConfig(width=16).vary(**changes), num_features, D)


def observed(grid: Grid, num_features: int = D + 4, batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, grid.size, num_features, generator=torch.Generator().manual_seed(1))


def test_bilinear_resizing_is_centre_aligned():
    ramp = torch.tensor([0.0, 1.0]).reshape(1, 2, 1).expand(1, 2, D + 4)
    condition = encoder()(ramp, Grid(1, 2), (1, 4))
    torch.testing.assert_close(condition[0, -1, 0], torch.tensor([0, 0.25, 0.75, 1]))


@pytest.mark.parametrize(("pixels", "tokens"), [(384, 576), (256, 256), (512, 1024)])
@pytest.mark.parametrize(("grid", "per_token"), [(OnLatents(), 80), (OnTokens(), 20)])
def test_every_flux_token_gets_one_condition(pixels, tokens, grid, per_token):
    net = encoder(grid=grid)
    raster = Grid(pixels // 16, pixels // 16)
    condition = net(observed(raster, batch=1), raster, (pixels // 8, pixels // 8))
    packed = pack(condition) if isinstance(grid, OnLatents) else condition.flatten(2).transpose(1, 2)
    assert packed.shape == (1, tokens, per_token)
    assert net.channels_per_token == per_token


def test_the_full_size_adds_272_or_68_input_channels():
    assert CondEncoder(CondConfig(), D + 4, D).channels_per_token == 272
    assert CondEncoder(CondConfig(grid=OnTokens()), D + 4, D).channels_per_token == 68


def test_on_the_token_grid_uncertainty_arrives_untouched_and_in_place():
    grid, rows = Grid(3, 5), observed(Grid(3, 5))
    condition = encoder(grid=OnTokens())(rows, grid, (6, 10))
    assert torch.equal(condition[:, -4:].flatten(2).transpose(1, 2), rows[..., -4:])


def test_projecting_before_resizing_equals_the_paper_s_order():
    net, grid, rows = encoder(), Grid(3, 4), observed(Grid(3, 4))
    plane = rows[..., :D].transpose(1, 2).unflatten(2, tuple(grid))
    resized = F.interpolate(plane, (6, 8), mode="bilinear", align_corners=False)
    embedded = net.fc(resized.movedim(1, -1)).movedim(-1, 1)
    expected = F.silu(net.norm(net.conv(embedded)))
    torch.testing.assert_close(net(rows, grid, (6, 8))[:, :-4], expected, atol=1e-5, rtol=1e-5)


def test_nearest_keeps_every_token_exact():
    net, grid, rows = encoder(interpolation="nearest"), Grid(2, 2), observed(Grid(2, 2))
    condition = net(rows, grid, (4, 4))
    assert torch.equal(condition[:, -4:, ::2, ::2], rows[..., -4:].transpose(1, 2).unflatten(2, (2, 2)))
    assert torch.equal(condition[:, -4:, 1::2, 1::2], condition[:, -4:, ::2, ::2])


def test_more_code_columns_start_as_if_they_were_not_there_and_then_learn():
    narrow, wide = encoder(D + 4), encoder(2 * D + 4)
    grid = Grid(2, 3)
    rows = observed(grid, 2 * D + 4)
    plain = torch.cat([rows[..., :D], rows[..., -4:]], -1)
    condition = wide(rows, grid, (4, 6))
    torch.testing.assert_close(condition, narrow(plain, grid, (4, 6)))
    condition.square().sum().backward()
    assert wide.fc.weight.grad[:, D:].abs().sum() > 0


def test_an_item_is_encoded_alike_alone_and_in_a_batch():
    net, grid, rows = encoder(), Grid(4, 4), observed(Grid(4, 4), batch=3)
    torch.testing.assert_close(net(rows, grid, (8, 8))[1:2], net(rows[1:2], grid, (8, 8)))
    torch.testing.assert_close(net.train()(rows, grid, (8, 8)), net.eval()(rows, grid, (8, 8)))


@pytest.mark.parametrize(("activation", "reference"), [("silu", nn.SiLU()), ("gelu", nn.GELU()), ("relu", nn.ReLU())])
@pytest.mark.parametrize("norm", ["group", "none"])
def test_the_mixed_codes_pass_the_norm_and_the_activation_that_were_asked_for(activation, reference, norm):
    net, grid, rows = encoder(activation=activation, norm=norm, grid=OnTokens()), Grid(3, 4), observed(Grid(3, 4))
    plane = net.fc(rows[..., :D]).transpose(1, 2).unflatten(2, tuple(grid))
    mixed = net.conv(plane)
    normed = F.group_norm(mixed, 16, net.norm.weight, net.norm.bias) if norm == "group" else mixed
    torch.testing.assert_close(net(rows, grid, (6, 8))[:, :-4], reference(normed))


def test_an_encoder_without_norm_draws_the_same_weights_and_has_none_of_a_norm():
    plain, normed = encoder(norm="none", groups=5).state_dict(), encoder().state_dict()
    assert normed.keys() - plain.keys() == {"norm.weight", "norm.bias"}
    assert all(torch.equal(weight, normed[name]) for name, weight in plain.items())


def test_features_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"expected \[b 16 12\] observed features for a 4x4 grid, got \[2, 6, 12\]"):
        encoder()(observed(Grid(2, 3)), Grid(4, 4), (8, 8))
    with pytest.raises(ValueError, match="groups=5 does not divide width=16"):
        encoder(groups=5)
