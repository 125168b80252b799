"""What networks look at: PIL's kernels as transformers' own image processors apply them, picture by picture."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from detokenizers.pretrained.networks.clip import MEAN, STD
from detokenizers.pretrained.networks.dinov2 import IMAGENET
from detokenizers.pretrained.networks.views import View
from tests.pretrained.fixed_weights import images, levels

OPENAI = View(224, MEAN, STD, crop="floor")
SHAPES = [(224, 224), (64, 64), (300, 500), (401, 233), (224, 227)]


def pictures(pixels: torch.Tensor) -> list[Image.Image]:
    return [Image.fromarray(one.permute(1, 2, 0).numpy()) for one in pixels]


@pytest.mark.parametrize("shape", SHAPES)
def test_clip_sees_what_transformers_clip_processor_makes(shape):
    pixels = levels(2, 3, *shape)
    expected = CLIPImageProcessorPil()(pictures(pixels), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(OPENAI(images(pixels)), expected, atol=1e-6, rtol=1e-5)


def test_genevals_clip_cuts_where_torchvision_cuts():
    pixels = levels(1, 3, 224, 227)
    shown = View(224, (0, 0, 0), (1, 1, 1), crop="round")(images(pixels))
    torch.testing.assert_close(255 * shown, pixels[..., 2:226].float())


@pytest.mark.parametrize("shape", SHAPES)
def test_dinov2_sees_the_whole_picture_at_224_as_dgm_eval_does(shape):
    pixels = levels(2, 3, *shape)
    processor = BitImageProcessorPil(
        size={"height": 224, "width": 224}, do_center_crop=None, image_mean=IMAGENET.mean, image_std=IMAGENET.std
    )
    expected = processor(pictures(pixels), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(IMAGENET(images(pixels)), expected, atol=1e-6, rtol=1e-5)


def test_shrinking_is_antialiased():
    stripes = images((torch.arange(448) % 2 * 255).to(torch.uint8).expand(1, 3, 448, 448))
    grey = View(224, (0, 0, 0), (1, 1, 1), crop=None)(stripes)[:, :, :, 4:-4]
    assert (grey - 0.5).abs().max() < 0.01


def test_a_view_says_what_it_does():
    assert (str(IMAGENET), str(OPENAI)) == ("PIL bicubic 224", "PIL bicubic 224, centre crop (floor)")
