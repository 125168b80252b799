"""The examiner says yes or no by its logits, the same whatever else is asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from detokenizers.pretrained.networks.vqa import YesNo, margin
from tests.pretrained.judges import save_examiner, words


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return YesNo.load(save_examiner(tmp_path_factory.mktemp("examiner") / "Tiny-VL"))


PICTURE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def test_margins_are_log_odds_over_both_spellings():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0, 9.0], [2.0, 0.0, 1.0, -1.0, 0.0]])
    expected = [0.0, np.log(np.exp(2) + 1) - np.log(np.exp(1) + np.exp(-1))]
    torch.testing.assert_close(margin(logits, [0, 1], [2, 3]), torch.tensor(expected, dtype=torch.float32))


def test_answers_depend_on_the_question_and_the_picture_and_not_on_company(judge):
    questions = ["Is there a dog?", "Is there a dog? or no", "a"]
    together = judge(PICTURE, questions)
    alone = torch.cat([judge(PICTURE, [question]) for question in questions])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert len({round(value, 6) for value in together.tolist()}) == 3
    assert not torch.allclose(judge(PICTURE.transpose(1, 0, 2), questions[:1]), alone[:1], atol=1e-6)
    assert judge.name == "tiny-vl"


def test_pixels_reach_the_answer_as_transformers_own_processing_has_it(judge):
    seen = judge.processor(images=[PICTURE], return_tensors="pt")
    assert seen["image_grid_thw"].tolist() == [[1, 6, 8]]
    chat = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>"
        + "<|image_pad|>" * 12
        + "<|vision_end|>Answer yes or no: a<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = judge.words(chat, return_tensors="pt", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        out = judge.model(input_ids=ids, mm_token_type_ids=(ids == judge.image_id).int(), **seen)
    expected = margin(out.logits[:, -1], judge.answers["yes"], judge.answers["no"])
    torch.testing.assert_close(judge(PICTURE, ["a"]), expected, atol=1e-6, rtol=0)


def test_a_tokenizer_without_yes_cannot_judge(tmp_path):
    with pytest.raises(ValueError, match="no single token for 'Yes'"):
        YesNo.load(save_examiner(tmp_path, words(leave_out=("Yes",))))


def test_what_is_no_examiner_is_refused_in_one_line(tmp_path, judge):
    with pytest.raises(ValueError, match="holds no transformers model"):
        YesNo.load(tmp_path)
    with pytest.raises(ValueError, match="no question"):
        judge(PICTURE, [])
