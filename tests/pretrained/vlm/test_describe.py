"""Understanding: greedy answers equal transformers' own pipeline of processor and model, at tiny size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import JanusImageProcessorPil, JanusProcessor

from detokenizers.data.sources import Scenes
from detokenizers.data.world.scenes import parse
from detokenizers.data.world.world import World
from detokenizers.evaluation.understanding import recall, same, understanding
from detokenizers.pretrained.vlm.janus import JanusVLM
from detokenizers.pretrained.vlm.loading import load_vlm
from detokenizers.pretrained.vlm.prompt_formats import JanusChat
from tests.pretrained.tiny import tiny_janus, tiny_tokenizer


@pytest.fixture(scope="module")
def mini():
    return load_vlm("mini")


def test_the_embedded_vlm_captions_most_scenes_and_the_batch_changes_no_word(mini):
    scenes = Scenes(World(), 24, "validation")
    images, truths = scenes.images(range(24)), [World().truth(row, "validation") for row in range(24)]
    together = mini.describe(images)
    assert together[:5] == mini.describe(images[:5], batch_size=2)
    scores = understanding(together, truths)
    assert scores["exact"]["value"] > 0.25
    assert scores["recall"]["value"] > 0.8
    assert understanding(["a cat on grass"] * 24, truths)["exact"]["value"] < 0.1


def test_a_caption_is_the_argmax_of_the_training_sequence(mini):
    """`describe` continues [image features, bos] token by token, as VLMObjective lays the sequence out."""
    image = Scenes(World(), 4, "validation").images(range(3, 4))
    said = mini.describe(image)[0]
    core, words = mini.model.model, mini.form.tokenizer
    ids = torch.tensor([[words.bos_token_id, *words.encode(said, add_special_tokens=False)]])
    seen = core.aligner(core.vision_model(image).last_hidden_state)
    hidden = core.language_model(inputs_embeds=torch.cat([seen, core.get_input_embeddings()(ids)], 1)).last_hidden_state
    following = mini.model.lm_head(hidden[:, seen.shape[1] :]).argmax(-1)[0].tolist()
    assert following == [*ids[0, 1:].tolist(), words.eos_token_id]


def test_a_vlm_without_a_chat_takes_no_question(mini):
    with pytest.raises(ValueError, match="takes no questions; leave 'why\\?' out"):
        mini.describe(torch.zeros(1, 3, 64, 64), "why?")


def test_images_of_another_size_are_refused(mini):
    with pytest.raises(ValueError, match=r"reads \[b 3 64 64\] images, not \[1, 3, 32, 32\]"):
        mini.describe(torch.zeros(1, 3, 32, 32))


def test_the_order_of_two_things_matters_only_where_a_relation_stands_between_them():
    apple, dog = "a red apple", "a dog"
    for link, right in (("and", True), ("left of", False)):
        truth = parse(f"{apple} {link} {dog} on grass")
        assert same(f"{apple} {link} {dog} on grass", truth)
        assert same(f"{dog} {link} {apple} on grass", truth) is right
        assert not same(f"a {link} b", truth)
    assert not same("a green apple and a dog on grass", parse("a red apple and a dog on grass"))
    assert not same("a red apple and a dog in the sky", parse("a red apple and a dog on grass"))


def test_a_chat_question_is_spelt_as_the_processor_of_transformers_spells_it():
    template = (
        "{{ bos_token }}{% for message in messages %}the {% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}{{ image_token }}{% else %}{{ part['text'] }}{% endif %} "
        "{% endfor %}{% endfor %}on"
    ).replace("{{ image_token }}", "<image>")
    vlm = JanusVLM(tiny_janus(), tiny_tokenizer(), JanusChat(tiny_tokenizer(), template))
    processor = JanusProcessor(JanusImageProcessorPil(), tiny_tokenizer(), num_image_tokens=16)
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "a red dog"}]}]
    spelt = processor.tokenizer.apply_chat_template(turn, chat_template=template, tokenize=False)
    grey = Image.fromarray(np.full((16, 16, 3), 127, np.uint8))
    theirs = processor(text=[spelt], images=[grey], return_tensors="pt", add_special_tokens=False)["input_ids"][0]
    assert vlm.form.question("a red dog", 16) == theirs.tolist()
    answers = vlm.describe(torch.randn(3, 3, 16, 16).clamp(-1, 1), "a red dog", max_tokens=5)
    assert len(answers) == 3


def test_words_recalled_are_counted_as_often_as_they_stand():
    assert recall("a cat", "a cat and a dog") == 2 / 5
    assert recall("a cat and a dog", "a cat and a dog") == 1
