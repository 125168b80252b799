"""DINOv2 as Meta's code computes it: the class token, with position embeddings resampled Meta's way."""

from __future__ import annotations

import pytest
import torch
from transformers import Dinov2Config, Dinov2Model

from detokenizers.pretrained.networks.dinov2 import IMAGENET, DINOv2, resampled
from detokenizers.pretrained.networks.views import View
from tests.pretrained.fixed_weights import fill, images, levels


def tiny(image_size: int = 56) -> Dinov2Model:
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=image_size, patch_size=14, mlp_ratio=2
    )
    model = Dinov2Model(config).eval()
    fill(model)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("hub") / "tiny-dinov2"
    tiny().save_pretrained(place)
    return place


def cubic(x: float) -> float:
    """Keys' kernel with a = -0.75, as torch's bicubic has it."""
    x, a = abs(x), -0.75
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def test_position_embeddings_are_read_in_steps_of_37_over_16_point_1():
    table = torch.randn(1, 1 + 37 * 37, 3, generator=torch.Generator().manual_seed(0))
    grid = table[0, 1:].view(37, 37, 3).double()
    found = resampled(table, 16)[0, 1:].view(16, 16, 3)
    for row, column in ((3, 5), (8, 8), (15, 14)):
        expected = torch.zeros(3, dtype=torch.float64)
        y, x = ((place + 0.5) * 37 / 16.1 - 0.5 for place in (row, column))
        for j in range(int(y) - 1, int(y) + 3):
            for i in range(int(x) - 1, int(x) + 3):
                expected += cubic(y - j) * cubic(x - i) * grid[min(j, 36), min(i, 36)]
        torch.testing.assert_close(found[row, column].double(), expected, atol=1e-4, rtol=1e-4)


def test_the_class_token_keeps_its_place_and_a_table_that_fits_stays():
    table = torch.randn(1, 1 + 16 * 16, 3)
    assert resampled(table, 16) is table
    assert torch.equal(resampled(table, 8)[:, 0], table[:, 0])
    assert resampled(table, 8).shape == (1, 65, 3)


def test_features_are_the_normed_class_token(folder):
    net = DINOv2(tiny(), View(56, IMAGENET.mean, IMAGENET.std, crop=None))
    pixels = levels(2, 3, 56, 56)
    seen = (pixels.float() / 255 - torch.tensor(IMAGENET.mean).view(3, 1, 1)) / torch.tensor(IMAGENET.std).view(3, 1, 1)
    with torch.no_grad():
        expected = tiny()(pixel_values=seen).pooler_output
    torch.testing.assert_close(net.features(images(pixels)), expected, atol=1e-5, rtol=1e-4)


def test_metas_positions_matter_to_the_features():
    pixels = levels(1, 3, 224, 224)
    model = tiny(image_size=518)
    with torch.no_grad():
        transformers = model(pixel_values=IMAGENET(images(pixels))).pooler_output
    ours = DINOv2(model).features(images(pixels))
    assert 1e-4 < (ours - transformers).norm() / transformers.norm() < 0.3


def test_a_folder_loads_with_its_identity_and_any_size_goes_in(folder):
    net = DINOv2.load(folder)
    assert net.identity is not None
    assert net.identity.startswith("tiny-dinov2@sha256:")
    pictures = images(levels(3, 3, 40, 72))
    together = net.features(pictures)
    assert together.shape == (3, 32)
    torch.testing.assert_close(net.features(pictures[1:2]), together[1:2], atol=1e-5, rtol=1e-4)
    assert not any(weight.requires_grad for weight in net.parameters())


def test_folders_that_hold_no_dinov2_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"no folder '.*nowhere', and it is not embedded either"):
        DINOv2.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no transformers model"):
        DINOv2.load(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot be loaded as a Dinov2Model"):
        DINOv2.load(tmp_path)
