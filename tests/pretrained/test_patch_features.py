"""DINOv2's patches, which a decoder's inner features are aligned with."""

from __future__ import annotations

import pytest
import torch
from transformers import Dinov2Config, Dinov2Model

from detokenizers.pretrained.patch_features import DINOv2Patches
from detokenizers.vugen.recipes import RECIPES


def tiny() -> Dinov2Model:
    torch.manual_seed(0)
    return Dinov2Model(
        Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    ).eval()


def test_patches_fill_the_side_in_raster_order_without_the_class_token():
    net, black = DINOv2Patches(tiny(), side=3), torch.full((1, 3, 21, 21), -1.0)
    assert net(black).shape == (1, 9, 16)
    assert net.channels == 16
    spot = black.clone()
    spot[:, :, 7:14, 14:21] = torch.rand(3, 7, 7, generator=torch.Generator().manual_seed(0)) * 2
    assert int((net(spot) - net(black)).abs().sum(-1).argmax()) == 5


def test_images_are_normalised_as_imagenets():
    model, seen = tiny(), []
    model.register_forward_pre_hook(lambda module, inputs, given: seen.append(given["pixel_values"]), with_kwargs=True)
    DINOv2Patches(model, side=2)(torch.zeros(1, 3, 28, 28))
    assert torch.allclose(
        seen[0][0, :, 0, 0], (0.5 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    )


def test_a_saved_one_is_loaded_and_a_missing_one_refused(tmp_path):
    model, image = tiny(), torch.rand(1, 3, 28, 28)
    model.save_pretrained(tmp_path / "dino")
    assert torch.allclose(DINOv2Patches.load(tmp_path / "dino", 2)(image), DINOv2Patches(model, 2)(image), atol=1e-6)
    with pytest.raises(ValueError, match="there is no folder"):
        DINOv2Patches.load(tmp_path / "nothing", 2)


def test_at_full_size_images_of_256_px_are_compared_at_448():
    term = RECIPES["vugen.autoencoder"]().alignment
    assert DINOv2Patches(tiny(), term.side).pixels == 448
    assert term.weight == 0.25
