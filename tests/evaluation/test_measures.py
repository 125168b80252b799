"""CLIPScore by hand."""

import pytest
import torch

from detokenizers.evaluation.measures import Batch, ClipScore, clip_score
from detokenizers.evaluation.networks import Networks


class Toy:
    identity = "toy"

    def features(self, images):
        return images.mean((2, 3))

    def texts(self, texts):
        return torch.tensor([[float(letter) for letter in text] for text in texts])


def test_the_score_is_a_hundred_cosines_and_never_negative():
    images = torch.tensor([[3.0, 4.0], [1.0, 0.0], [1.0, 0.0], [0.5, 0.5]])
    texts = torch.tensor([[4.0, 3.0], [0.0, 2.0], [-1.0, 0.1], [7.0, 7.0]])
    torch.testing.assert_close(clip_score(images, texts), torch.tensor([96.0, 0, 0, 100]).double())


def test_a_net_scores_each_picture_with_its_own_caption_and_is_in_the_name():
    measure, networks = ClipScore("clipscore", "toy", "toy"), Networks(toy=Toy)
    images = torch.tensor([[1.0, 0, 0], [0, 1, 0]])[:, :, None, None].expand(2, 3, 4, 4)
    batch = Batch(["a", "b"], prompts=["100", "011"])
    (scores,) = measure.columns(batch, images, networks).values()
    assert scores.tolist() == pytest.approx([100, 100 * 0.5**0.5])
    assert measure.metrics["clipscore"].label == "CLIPScore-toy"


def test_without_prompts_there_is_no_score():
    with pytest.raises(ValueError, match="needs the prompt of each picture"):
        ClipScore("clipscore", "toy", "toy").columns(Batch(["a"]), torch.zeros(1, 3, 4, 4), Networks(toy=Toy))
