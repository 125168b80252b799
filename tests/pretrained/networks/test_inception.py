"""TF-Inception: torch-fidelity's numbers on the same weights (see scripts/parity_references.py), and its parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from detokenizers.checkpoint import load_tensors
from detokenizers.pretrained.networks.inception import Inception
from detokenizers.pretrained.networks.inception_blocks import average, block_a, block_e, maximum
from detokenizers.pretrained.networks.views import tf1_bilinear
from tests.pretrained.fixed_weights import fill, images, levels

GOLDEN = Path(__file__).parents[1] / "golden" / "inception.safetensors"
SIZES = {"small": (2, 3, 32, 32), "oblong": (1, 3, 200, 130), "large": (1, 3, 512, 400)}


@pytest.fixture(scope="module")
def net() -> Inception:
    inception = Inception()
    fill(inception)
    return inception


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return load_tensors(GOLDEN)


def literal_resize(plane: np.ndarray, size: int) -> np.ndarray:
    """TensorFlow 1's bilinear, pixel by pixel, in the fp32 arithmetic of its kernel."""
    height, width = plane.shape
    scales = np.float32(height / size), np.float32(width / size)
    drawn = np.zeros((size, size), np.float32)
    for row in range(size):
        y = np.float32(row) * scales[0]
        top, bottom = int(y), min(int(y) + 1, height - 1)
        for column in range(size):
            x = np.float32(column) * scales[1]
            left, right = int(x), min(int(x) + 1, width - 1)
            upper = plane[top, left] + (plane[top, right] - plane[top, left]) * (x - np.float32(left))
            lower = plane[bottom, left] + (plane[bottom, right] - plane[bottom, left]) * (x - np.float32(left))
            drawn[row, column] = upper + (lower - upper) * (y - np.float32(top))
    return drawn


@pytest.mark.parametrize("shape", [(7, 5), (40, 33), (29, 29)])
def test_the_resize_is_tensorflow_1s_loop(shape):
    picture = levels(1, 1, *shape).float()
    expected = literal_resize(picture[0, 0].numpy(), 29)
    np.testing.assert_allclose(tf1_bilinear(picture, 29)[0, 0].numpy(), expected, atol=1e-4)


def test_the_resize_neither_centres_corners_nor_smooths():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    assert tf1_bilinear(ramp, 4)[0, 0, 0].tolist() == [0, 2, 4, 6]
    centred = F.interpolate(ramp, (4, 4), mode="bilinear")
    assert centred[0, 0, 0].tolist() == [0.5, 2.5, 4.5, 6.5]


@pytest.mark.parametrize("size", SIZES)
def test_the_resize_equals_torch_fidelitys(golden, size):
    resized = tf1_bilinear(levels(*SIZES[size]).float(), 299)[:, :, ::37, ::37]
    torch.testing.assert_close(resized, golden[f"resized.{size}"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_features_equal_torch_fidelitys(net, golden, size):
    found, expected = net.features(images(levels(*SIZES[size]))), golden[f"features.{size}"]
    assert expected.std() > 0.01, "these features would not notice an error"
    assert (found - expected).norm() / expected.norm() < 1e-4
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_logits_equal_torch_fidelitys_unbiased_ones(net, golden):
    found, expected = net.logits(images(levels(*SIZES["small"]))), golden["logits.small"]
    assert (found - expected).norm() / expected.norm() < 1e-4


def test_pictures_are_seen_as_eight_bits(net):
    picture = images(levels(1, 3, 32, 32))
    assert torch.equal(net.features(picture + 0.4 / 127.5), net.features(picture))


def test_features_do_not_depend_on_company(net):
    pictures = images(levels(3, 3, 24, 24))
    together = net.features(pictures)
    alone = torch.cat([net.features(one[None]) for one in pictures])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-4)


def test_pictures_somebody_else_resized_skip_the_resize(net):
    picture = levels(1, 3, 299, 299)
    torch.testing.assert_close(net.pooled(picture.float()), net.features(images(picture)), atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match=r"reads levels \[b 3 299 299\], got \(1, 3, 64, 64\)"):
        net.pooled(torch.zeros(1, 3, 64, 64))


def test_averages_at_borders_leave_the_padding_out_and_the_last_block_takes_a_maximum():
    flat = torch.full((1, 1, 5, 5), 3.0)
    assert torch.equal(average(flat), flat)
    assert torch.equal(maximum(-flat), -flat)
    net = Inception()
    assert [link for chain in net.Mixed_7b.chains for link in chain if callable(link)] == [average]
    assert [link for chain in net.Mixed_7c.chains for link in chain if callable(link)] == [maximum]


def test_blocks_have_the_widths_of_the_paper():
    assert block_a(192, pooled=32).channels == 256
    assert block_e(1280, average).channels == 2048
    # torchvision's Inception-v3 without its auxiliary head, and with 1008 classes in place of 1000.
    assert sum(weight.numel() for weight in Inception().parameters()) == 23_834_568 + 2049 * 8


def test_training_mode_changes_nothing(net):
    picture = images(levels(1, 3, 32, 32))
    before = net.features(picture)
    assert torch.equal(net.train().features(picture), before)


def test_a_named_file_is_loaded_and_becomes_the_identity(net, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(net.state_dict(), path)
    again = Inception.load(path)
    assert again.identity is not None
    assert again.identity.startswith("inception-2015-12-05@sha256:")
    picture = images(levels(1, 3, 32, 32))
    weights = net.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in again.state_dict().items())
    torch.testing.assert_close(again.features(picture), net.features(picture), atol=1e-5, rtol=1e-4)


def test_files_that_do_not_fit_are_named(net, tmp_path):
    state = net.state_dict()
    path = tmp_path / "weights.pth"
    torch.save({name: tensor for name, tensor in state.items() if name != "fc.weight"}, path)
    with pytest.raises(ValueError, match=r"weights\.pth does not fit a Inception: missing fc\.weight \(1 in all\)"):
        Inception.load(path)
    torch.save(state | {"AuxLogits.fc.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"unknown AuxLogits\.fc\.weight"):
        Inception.load(path)
    torch.save(state | {"fc.weight": torch.zeros(1000, 2048)}, path)
    with pytest.raises(ValueError, match=r"does not fit a Inception: fc\.weight is \["):
        Inception.load(path)


def test_pictures_that_are_none_are_refused(net):
    with pytest.raises(ValueError, match="NaN"):
        net.features(torch.full((1, 3, 32, 32), torch.nan))
    with pytest.raises(ValueError, match=r"\[b 3 h w\]"):
        net.features(torch.zeros(1, 1, 32, 32))
