"""CLIPScore by hand."""

import pytest
import torch

from detokenizers.evaluation.clip_score import clip_score, metric, score


class Toy:
    name = "toy"

    def features(self, images):
        return images.mean((2, 3))

    def texts(self, texts):
        return torch.tensor([[float(letter) for letter in text] for text in texts])


def test_the_score_is_a_hundred_cosines_and_never_negative():
    images = torch.tensor([[3.0, 4.0], [1.0, 0.0], [1.0, 0.0], [0.5, 0.5]])
    texts = torch.tensor([[4.0, 3.0], [0.0, 2.0], [-1.0, 0.1], [7.0, 7.0]])
    torch.testing.assert_close(clip_score(images, texts), torch.tensor([96.0, 0, 0, 100]).double())


def test_a_net_scores_each_picture_with_its_own_caption():
    images = torch.tensor([[1.0, 0, 0], [0, 1, 0]])[:, :, None, None].expand(2, 3, 4, 4)
    assert score(Toy(), images, ["100", "100"]).tolist() == [100, 0]
    assert score(Toy(), images, ["100", "011"])[1].item() == pytest.approx(100 * 0.5**0.5)


def test_the_model_is_in_the_name():
    assert metric(Toy()).label == "CLIPScore-toy"


def test_pictures_and_captions_must_pair_up():
    with pytest.raises(ValueError, match="each image goes with one text"):
        clip_score(torch.ones(2, 4), torch.ones(3, 4))
