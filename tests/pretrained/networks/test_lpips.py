"""LPIPS: the lpips package's numbers on the same weights (see scripts/parity_references.py), and its promises."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detokenizers.checkpoint import load_tensors
from detokenizers.pretrained.networks.lpips import LEARNED, LPIPS
from tests.pretrained.fixed_weights import fill, images, levels

GOLDEN = load_tensors(Path(__file__).parents[1] / "golden" / "lpips.safetensors")
SIZES = {"square": (2, 3, 64, 64), "oblong": (1, 3, 75, 101)}


@pytest.fixture(scope="module", params=["alex", "vgg"])
def lpips(request: pytest.FixtureRequest) -> LPIPS:
    distance = LPIPS(request.param)
    fill(distance)
    return distance


@pytest.fixture(scope="module")
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    return images(levels(*SIZES["square"])), images(levels(*SIZES["square"], seed=1))


@pytest.mark.parametrize("size", SIZES)
def test_distances_equal_those_of_the_lpips_package(lpips, size):
    a, b = images(levels(*SIZES[size])), images(levels(*SIZES[size], seed=1))
    expected = GOLDEN[f"{lpips.name.removeprefix('LPIPS-')}.{size}"]
    assert expected.min() > 0.05, "this distance would not notice an error"
    torch.testing.assert_close(lpips.between(a, b), expected, atol=1e-5, rtol=0)


def test_the_names_of_the_weights_are_torchvisions():
    alex = {name.removesuffix(".weight") for name in LPIPS("alex").state_dict() if name.endswith("weight")}
    assert alex == {f"features.{place}" for place in (0, 3, 6, 8, 10)}
    vgg = {name.removesuffix(".weight") for name in LPIPS("vgg").state_dict() if name.endswith("weight")}
    assert vgg == {f"features.{place}" for place in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)}


def test_a_picture_is_no_distance_from_itself_and_order_does_not_matter(lpips, pair):
    a, b = pair
    assert lpips.between(a, a).tolist() == [0, 0]
    torch.testing.assert_close(lpips.between(a, b), lpips.between(b, a))


def test_the_distance_is_the_weighted_sum_the_paper_writes(lpips, pair):
    a, b = pair
    learned, net = load_tensors(LEARNED), lpips.name.removeprefix("LPIPS-")
    expected = torch.zeros(2)
    for place, (x, y) in enumerate(zip(lpips.activations(a), lpips.activations(b), strict=True)):
        x, y = (torch.nn.functional.normalize(one, dim=1) for one in (x, y))
        expected += torch.einsum("bchw,c->bhw", (x - y) ** 2, learned[f"{net}.{place}"]).mean((1, 2))
    torch.testing.assert_close(lpips.between(a, b), expected)


def test_an_embedded_truth_serves_several_copies(lpips, pair):
    a, b = pair
    assert torch.equal(lpips.distance(lpips.embed(a), lpips.embed(b)), lpips.between(a, b))


def test_the_learned_weights_are_never_negative_and_as_many_as_channels():
    learned = load_tensors(LEARNED)
    assert all((weight >= 0).all() for weight in learned.values())
    widths = {net: [learned[f"{net}.{place}"].numel() for place in range(5)] for net in ("alex", "vgg")}
    assert widths == {"alex": [64, 192, 384, 256, 256], "vgg": [64, 128, 256, 512, 512]}


@pytest.mark.parametrize(("net", "side"), [("alex", 31), ("vgg", 16)])
def test_the_smallest_picture_has_a_distance_and_a_smaller_one_is_refused(net, side):
    lpips = LPIPS(net)
    assert lpips.between(torch.zeros(1, 3, side, side), torch.ones(1, 3, side, side)).isfinite().all()
    with pytest.raises(ValueError, match=rf"LPIPS-{net} needs images of at least {side} px, got {side - 1}x64"):
        lpips.between(torch.zeros(1, 3, side - 1, 64), torch.zeros(1, 3, side - 1, 64))


def test_a_whole_torchvision_file_loads_and_its_classifier_is_left(pair, tmp_path):
    alex = LPIPS("alex")
    fill(alex)
    path = tmp_path / "alexnet.pth"
    torch.save(alex.state_dict() | {"classifier.1.weight": torch.zeros(2, 2)}, path)
    again = LPIPS.load("alex", path)
    weights = alex.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in again.state_dict().items())
    torch.testing.assert_close(again.between(*pair), alex.between(*pair), atol=1e-5, rtol=0)
    assert again.identity is not None
    assert again.identity.startswith("LPIPS-alex-v0.1@sha256:")
    with pytest.raises(ValueError, match="does not fit a LPIPS"):
        LPIPS.load("vgg", path)


def test_other_nets_and_other_shapes_are_refused(lpips):
    with pytest.raises(ValueError, match="has the nets alex, vgg, not 'squeeze'"):
        LPIPS("squeeze")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="images of one shape"):
        lpips.between(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 32))
