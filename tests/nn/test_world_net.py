"""The judge's net: shapes, any image size, colours read where the noun is."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from detokenizers.nn.world_net import WorldNet, WorldNetConfig

CONFIG = WorldNetConfig(nouns=3, colours=2, backgrounds=4, resolution=16, widths=(4, 4, 8), num_features=10)


@pytest.fixture
def net() -> WorldNet:
    torch.manual_seed(0)
    return WorldNet(CONFIG).eval()


def test_answers_have_one_logit_per_possible_answer(net):
    answers = net(torch.randn(2, 3, 16, 16))
    shapes = {name: tuple(logits.shape) for name, logits in answers.items()}
    assert shapes == {"counts": (2, 3, 5), "colours": (2, 3, 3), "where": (2, 3, 16), "background": (2, 4)}


def test_activations_are_the_stem_and_every_stage_coarse_last(net):
    maps = net.activations(torch.randn(2, 3, 16, 16))
    assert [tuple(map.shape) for map in maps] == [(2, 4, 8, 8), (2, 4, 8, 8), (2, 4, 8, 8), (2, 8, 4, 4)]
    assert net.features(torch.randn(2, 3, 16, 16)).shape == (2, 10)


def test_larger_images_are_resized_first(net):
    small = torch.randn(1, 3, 16, 16)
    large = F.interpolate(small, scale_factor=3, mode="nearest")
    resized = F.interpolate(large, (16, 16), mode="bilinear", antialias=True, align_corners=False)
    torch.testing.assert_close(net.features(large), net.features(resized))


def test_an_image_is_judged_alone(net):
    images = torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(net.features(images)[1:2], net.features(images[1:2]), atol=1e-6, rtol=1e-5)


def test_fresh_residuals_change_nothing(net):
    maps = net.activations(torch.randn(1, 3, 16, 16))
    bias_alone = [stage[1].second.bias + stage[2].second.bias for stage in net.stages[:2]]
    torch.testing.assert_close(maps[1], maps[0] + bias_alone[0][:, None, None])


def test_a_colour_is_read_where_its_noun_is(net, monkeypatch):
    """Noun 0 looks for channel 0, which one cell alone has; what the other cells show does not touch its colour."""
    cells = torch.randn(1, 8, 4, 4)
    cells[:, 0] = -20
    cells[0, 0, 1, 2] = 20
    with torch.no_grad():
        net.where.weight.zero_()
        net.where.weight[0, 0] = 5

    def colours() -> torch.Tensor:
        monkeypatch.setattr(net, "activations", lambda images: [cells])
        return net(torch.zeros(1, 3, 16, 16))["colours"][0]

    before = colours()
    cells[0, 1:, 3, 3] += 3
    torch.testing.assert_close(colours()[0], before[0])
    assert not torch.allclose(colours()[1], before[1])
    cells[0, 1:, 1, 2] += 3
    assert not torch.allclose(colours()[0], before[0])


def test_every_weight_learns(net):
    images = torch.randn(2, 3, 16, 16)
    sum(logits.square().sum() for logits in net(images).values()).backward()
    assert all(weight.grad is not None for weight in net.parameters())
