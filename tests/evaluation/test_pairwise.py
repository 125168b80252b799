"""Pixel metrics against scikit-image, and what must be true of them by definition."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from detokenizers.evaluation.pairwise import (
    WINDOWS,
    PerceptualDistance,
    gradient_energy,
    levels,
    psnr,
    ssim,
)

SKIMAGE = {
    "uniform7": {"win_size": 7},
    "gaussian11": {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False},
}


class TinyNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.Conv2d(8, 16, 3, stride=2)

    def activations(self, images):
        first = self.first(images)
        return [first, self.second(first.relu())]


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(3, 3, 6, 5, generator=generator), (48, 40), mode="bicubic")
    a = smooth * 2 - 1
    return a, a + 0.1 * torch.randn(a.shape, generator=generator)


def as_uint8(image):
    return levels(image[None])[0].permute(1, 2, 0).numpy().astype(np.uint8)


def test_psnr_equals_scikit_image(pair):
    a, b = pair
    expected = [peak_signal_noise_ratio(as_uint8(x), as_uint8(y), data_range=255) for x, y in zip(a, b)]
    np.testing.assert_allclose(psnr(a, b).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS.keys())
def test_ssim_equals_scikit_image(pair, window):
    a, b = pair
    settings = SKIMAGE[window.name]
    expected = [
        structural_similarity(as_uint8(x), as_uint8(y), channel_axis=2, data_range=255, **settings)
        for x, y in zip(a, b)
    ]
    np.testing.assert_allclose(ssim(a, b, window).numpy(), expected, atol=1e-9)


def test_the_two_windows_disagree_so_the_name_matters(pair):
    assert (ssim(*pair, WINDOWS["uniform7"]) - ssim(*pair, WINDOWS["gaussian11"])).abs().max() > 0.01


def test_identical_images_have_infinite_psnr_and_ssim_one(pair):
    a, _ = pair
    assert torch.isinf(psnr(a, a)).all()
    torch.testing.assert_close(ssim(a, a), torch.ones(3, dtype=torch.float64))


def test_differences_below_half_a_level_do_not_count(pair):
    a = levels(pair[0]) / 127.5 - 1
    assert torch.isinf(psnr(a, a + 0.4 / 127.5)).all()


def test_the_perceptual_distance_has_the_lpips_form(pair):
    a, b = pair
    net = TinyNet()
    expected = 0
    for x, y in zip(net.activations(a), net.activations(b)):
        x, y = torch.nn.functional.normalize(x, dim=1), torch.nn.functional.normalize(y, dim=1)
        expected = expected + (x - y).square().sum(1).mean((1, 2))
    distance = PerceptualDistance(net, "tiny")
    near, far = distance.embed(a), distance.embed(b)
    torch.testing.assert_close(distance.distance(near, far), expected.detach().double(), rtol=1e-5, atol=1e-7)
    assert not distance.distance(near, near).any()


def test_blur_lowers_and_noise_raises_gradient_energy(pair):
    a, noisy = pair
    blurred = torch.nn.functional.avg_pool2d(a, 5, stride=1, padding=2, count_include_pad=False)
    assert (gradient_energy(blurred) < gradient_energy(a)).all()
    assert (gradient_energy(noisy) > gradient_energy(a)).all()


def test_images_of_different_sizes_are_refused(pair):
    with pytest.raises(ValueError, match="resize one of them first"):
        psnr(pair[0], pair[1][..., :-1])


def test_images_smaller_than_the_window_are_refused():
    with pytest.raises(ValueError, match="at least 11 px"):
        ssim(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8), WINDOWS["gaussian11"])


def test_a_diverged_decoder_is_refused(pair):
    with pytest.raises(ValueError, match="NaN"):
        psnr(pair[0], pair[1] * float("nan"))
