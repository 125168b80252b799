"""GenEval's detector: its way out on logits made by hand, its way in, and the whole at tiny random size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

from detokenizers.pretrained.networks.mask2former import MEAN, STD, Mask2Former, box_of, instances, prepared
from tests.pretrained.judges import mask2former


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("mask2former")
    mask2former().save_pretrained(path)
    return path


def test_a_query_may_be_several_classes_and_scores_are_class_times_mask():
    likely = torch.tensor([[0.6, 0.3, 0.1], [0.05, 0.05, 0.9]])  # the last column is "nothing"
    masks = torch.full((2, 4, 4), -9.0)
    masks[0, 1:3, 0:2] = 2.0
    masks[1] = 5.0
    found = instances(likely.log(), masks, padded=(4, 4), inner=(4, 4), size=(4, 4), top=3)
    sure = torch.tensor([2.0, 5.0]).sigmoid()
    assert found.classes.tolist()[:2] == [0, 1]
    torch.testing.assert_close(
        found.scores, torch.stack([0.6 * sure[0], 0.3 * sure[0], 0.05 * sure[1]]), atol=1e-5, rtol=0
    )
    assert found.boxes[0].tolist() == [0, 1, 2, 3]
    assert found.boxes[2].tolist() == [0, 0, 4, 4]
    assert found.masks[0].sum() == 4


def test_a_mask_that_is_nowhere_scores_nothing_and_has_no_box():
    found = instances(torch.tensor([[9.0, 0.0]]), torch.full((1, 2, 2), -1.0), padded=(2, 2), inner=(2, 2), size=(2, 2))
    assert found.scores.tolist() == [0]
    assert found.boxes.tolist() == [[0, 0, 0, 0]]


def test_masks_are_enlarged_bilinearly_before_the_threshold_and_padding_is_cut_off():
    masks = torch.tensor([[[1.0, -1.0]]])
    found = instances(torch.tensor([[9.0, 0.0]]), masks, padded=(1, 8), inner=(1, 6), size=(1, 12))
    # Enlarged to eight, of which the first four are positive; of these the first six to twelve.
    assert found.masks[0, 0].tolist() == [True] * 8 + [False] * 4
    assert found.boxes[0].tolist() == [0, 0, 8, 1]


def test_of_many_candidates_the_likeliest_stay():
    logits = torch.randn(5, 81, generator=torch.Generator().manual_seed(0))
    found = instances(logits, torch.ones(5, 2, 2), padded=(2, 2), inner=(2, 2), size=(2, 2), top=7)
    expected = logits.softmax(-1)[:, :-1].flatten().topk(7)
    assert found.classes.tolist() == (expected.indices % 80).tolist()


def test_a_box_ends_one_pixel_outside_its_mask():
    mask = torch.zeros(6, 7, dtype=torch.bool)
    mask[2, 3] = mask[4, 5] = True
    assert box_of(mask).tolist() == [3, 2, 6, 5]


@pytest.mark.parametrize(
    ("size", "inner", "padded"),
    [
        ((384, 384), (800, 800), (800, 800)),
        ((512, 768), (800, 1200), (800, 1216)),
        ((100, 400), (333, 1333), (352, 1344)),
    ],
)
def test_pictures_become_800_px_on_the_short_side_and_a_multiple_of_32(size, inner, padded):
    picture = np.full((*size, 3), 100, np.uint8)
    pixels, inside = prepared(picture)
    assert inside == inner
    assert tuple(pixels.shape[1:]) == padded
    expected = (100 - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(pixels[:, : inner[0], : inner[1]].mean((1, 2)), expected, atol=1e-4, rtol=0)
    assert (pixels[:, inner[0] :] == 0).all()
    assert (pixels[:, :, inner[1] :] == 0).all()


def test_a_tiny_detector_finds_a_hundred_candidates_in_the_pictures_own_pixels(folder, monkeypatch):
    monkeypatch.setattr("detokenizers.pretrained.networks.mask2former.SHORT", 64)
    judge = Mask2Former.load(folder)
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    found = judge(picture)
    assert found.masks.shape == (100, 40, 60)
    assert (found.scores.diff() <= 0).all()
    assert found.classes.min() >= 0
    assert found.classes.max() < 80
    assert "@sha256:" in judge.identity
    assert found.scores.equal(judge(picture).scores)


def test_another_kind_of_detector_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="133 classes"):
        Mask2Former(mask2former(133))
    with pytest.raises(ValueError, match="nowhere"):
        Mask2Former.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no transformers model"):
        Mask2Former.load(tmp_path)
    with pytest.raises(ValueError, match=r"uint8 \[h w 3\]"):
        prepared(np.zeros((4, 4), np.uint8))


def test_the_published_detector_is_as_large_as_its_file():
    swin = SwinConfig(
        embed_dim=96, depths=[2, 2, 18, 2], num_heads=[3, 6, 12, 24], window_size=7,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    with torch.device("meta"):
        model = Mask2FormerForUniversalSegmentation(Mask2FormerConfig(backbone_config=swin, num_labels=80))
    megabytes = sum(weight.numel() for weight in model.parameters()) * 4 / 2**20
    assert megabytes == pytest.approx(263, abs=1)  # the Hub lists 263 MB of safetensors
