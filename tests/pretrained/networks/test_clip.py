"""CLIP out of a folder in Hub format: its own embeddings, the right GELU, and no caption cut in silence."""

from __future__ import annotations

import json
import string

import pytest
import torch
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from detokenizers.pretrained.networks import clip as module
from detokenizers.pretrained.networks.clip import CLIP
from tests.pretrained.fixed_weights import fill, images, levels

START, END = "<|startoftext|>", "<|endoftext|>"
VOCABULARY = [*string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase), START, END]
WINDOW = 12


def tiny(activation: str = "quick_gelu") -> CLIPModel:
    text = {
        "vocab_size": len(VOCABULARY), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": WINDOW, "hidden_act": activation,
        "bos_token_id": VOCABULARY.index(START), "eos_token_id": VOCABULARY.index(END),
    }  # fmt: skip
    vision = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 28, "patch_size": 14, "hidden_act": activation,
    }  # fmt: skip
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).eval()
    fill(model)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("hub") / "tiny-clip"
    tiny().save_pretrained(place)
    CLIPTokenizer(vocab={word: row for row, word in enumerate(VOCABULARY)}, merges=[]).save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def clip(folder) -> CLIP:
    return CLIP.load(folder)


def test_pictures_and_captions_get_the_models_own_embeddings(clip):
    pixels = levels(2, 3, 28, 28)
    ids = torch.tensor([[VOCABULARY.index(word) for word in (START, "c", "a", "t</w>", END)]])
    with torch.no_grad():
        pictures = tiny().get_image_features(pixel_values=clip.view(images(pixels))).pooler_output  # pyright: ignore
        caption = tiny().get_text_features(input_ids=ids).pooler_output  # pyright: ignore
    torch.testing.assert_close(clip.features(images(pixels)), pictures, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(clip.texts(["Cat"]), caption, atol=1e-5, rtol=1e-4)


def test_captions_and_pictures_do_not_depend_on_company(clip):
    together = clip.texts(["a", "a long one", "dog"])
    for row, text in enumerate(["a", "a long one", "dog"]):
        torch.testing.assert_close(clip.texts([text])[0], together[row], atol=1e-5, rtol=1e-4)
    pictures = images(levels(3, 3, 31, 50))
    torch.testing.assert_close(clip.features(pictures[2:]), clip.features(pictures)[2:], atol=1e-5, rtol=1e-4)


def test_captions_beyond_the_window_are_cut_and_named(clip, caplog):
    fits, beyond = "abcdefghij", "abcdefghijklm"
    assert clip.too_long([fits, beyond, fits, beyond]) == [1, 3]
    assert clip.too_long([]) == []
    with caplog.at_level("WARNING"):
        cut = clip.texts([beyond])
    assert "1 of 1 texts are longer than the 12 tokens of tiny-clip and were cut" in caplog.text
    assert torch.equal(cut, clip.texts(["abcdefghijxyz"])), "the tail is gone"
    assert clip.words([beyond], truncation=True, max_length=WINDOW)["input_ids"][0][-1] == VOCABULARY.index(END)
    caplog.clear()
    clip.texts([fits])
    assert not caplog.text


def test_the_name_is_the_folders_and_the_identity_holds_the_hash(clip):
    assert clip.name == "tiny-clip"
    assert clip.identity is not None
    assert clip.identity.startswith("tiny-clip@sha256:")


def test_a_published_name_with_the_wrong_gelu_is_refused(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "ACTIVATIONS", {str(folder): "gelu"})
    with pytest.raises(ValueError, match=r"asks for quick_gelu, but .* was trained with gelu"):
        CLIP.load(folder)
    exact, quick = CLIP(tiny("gelu"), CLIP.load_words(folder), "x"), CLIP(tiny(), CLIP.load_words(folder), "x")
    assert (exact.texts(["cat"]) - quick.texts(["cat"])).abs().max() > 1e-4


def test_weights_that_are_missing_are_not_made_up(folder, tmp_path):
    place = tmp_path / "clip"
    model = tiny()
    state = {name: tensor for name, tensor in model.state_dict().items() if name != "text_projection.weight"}
    model.save_pretrained(place, state_dict=state)
    with pytest.raises(ValueError, match=r"does not fit a CLIPModel: missing text_projection\.weight \(1 in all\)"):
        CLIP.load(place)


def test_a_torch_file_will_do_where_there_is_no_safetensors(folder, clip, tmp_path):
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text((folder / name).read_text())
    torch.save(tiny().state_dict(), tmp_path / "pytorch_model.bin")
    loaded = CLIP.load(tmp_path)
    weights = clip.model.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in loaded.model.state_dict().items())
    # The two files leave the weights at other alignments, and with them a matrix product takes another order.
    torch.testing.assert_close(loaded.texts(["cat"]), clip.texts(["cat"]), atol=1e-5, rtol=1e-5)


def test_a_folder_without_tokenizer_is_named(tmp_path):
    tiny().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"has no readable CLIP tokenizer \(tokenizer\.json\)"):
        CLIP.load(tmp_path)


def test_the_window_of_the_published_models_is_77_with_start_and_end():
    text = json.loads(CLIPConfig().to_json_string())["text_config"]
    assert (text["max_position_embeddings"], text["hidden_act"]) == (77, "quick_gelu")
