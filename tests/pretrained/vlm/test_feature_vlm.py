"""Features are what the VLM's projector receives, of every family; the VLM itself is never changed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from detokenizers.pretrained.vlm.feature_vlm import TAPS, TappedVLM, View, native_size
from detokenizers.pretrained.vlm.load_features import load_feature_vlm, spelt
from detokenizers.protocols import Grid

from ..tiny import tiny_tokenizer
from .tiny_vlms import FAMILIES, spell, tiny_model


def tapped(family: str, **view) -> TappedVLM:
    return TappedVLM(tiny_model(family), spell, 0, View(**view))


def pictures(side: int = 16, count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(3)) * 2 - 1


def projected(vlm: TappedVLM, images: torch.Tensor) -> torch.Tensor:
    """What the VLM's own code hands to its projector."""
    pixels = ((images + 1) / 2 - vlm.mean) / vlm.std
    arguments = {
        "llava_onevision": lambda: dict(pixel_values=pixels, image_sizes=torch.tensor([[16, 16]] * len(images)),
                                        batch_num_images=torch.full((len(images),), 2)),
        "smolvlm": lambda: dict(pixel_values=pixels[:, None]),
        "perception_lm": lambda: dict(pixel_values=pixels[:, None]),
    }.get(vlm.model.config.model_type, lambda: dict(pixel_values=pixels))()  # fmt: skip
    received = []
    projector = getattr(vlm.inner, vlm.tap.projector)
    handle = projector.register_forward_pre_hook(lambda module, inputs: received.append(inputs[0]))
    with torch.no_grad():
        vlm.inner.get_image_features(**arguments)
    handle.remove()
    return received[0]


def test_every_family_has_a_tiny_one():
    assert set(FAMILIES) | {"idefics3"} == set(TAPS)  # idefics3 is SmolVLM under another name


@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_what_the_projector_receives(family):
    vlm = tapped(family)
    expected = projected(vlm, pictures())
    assert torch.equal(vlm.features(pictures()), expected)
    assert (vlm.grid.size, vlm.channels) == tuple(expected.shape[1:])


@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_in_raster_order(family):
    vlm = tapped(family)
    grid, image = vlm.grid, torch.zeros(1, 3, 16, 16)
    cell = 16 // grid.width
    spot = image.clone()
    spot[:, :, 2 * cell : 3 * cell, cell : 2 * cell] = torch.rand(3, cell, cell) * 2
    change = (vlm.features(spot) - vlm.features(image)).abs().sum(-1)[0]
    assert int(change.argmax()) == 2 * grid.width + 1


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"perception_lm"}))
def test_other_sizes_are_resized_or_read_as_they_are(family):
    assert tapped(family).features(pictures(24)).shape == tapped(family).features(pictures(16)).shape
    larger = tapped(family, size=32)
    assert larger.grid == Grid(8, 8)
    assert larger.features(pictures(32)).shape[1] == 64


def test_a_tower_of_one_size_refuses_others():
    with pytest.raises(ValueError, match="perception_lm reads images of 16 px only, not 32"):
        tapped("perception_lm", size=32)
    assert tapped("perception_lm", size=16).grid == Grid(4, 4)


def test_pooling_averages_squares_of_features():
    vlm, pooled = tapped("llava"), tapped("llava", pool=2)
    assert pooled.grid == Grid(2, 2)
    four = vlm.features(pictures())[:, [0, 1, 4, 5]]
    assert torch.allclose(pooled.features(pictures())[:, 0], four.mean(1), atol=1e-6)


def test_clip_towers_get_their_own_normalisation_and_siglip_towers_the_image_as_it_is():
    seen = []
    for family in ("llava", "janus"):
        vlm = tapped(family)
        tower = getattr(vlm.inner, vlm.tap.tower)
        tower.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        vlm.features(pictures())
    assert torch.allclose(seen[0][0, 0], (pictures()[0, 0] / 2 + 0.5 - 0.48145466) / 0.26862954, atol=1e-6)
    assert torch.allclose(seen[1], pictures(), atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_are_read_by_the_frozen_language_model(family):
    vlm = tapped(family)
    text = vlm.text_cache(["a red apple", "", "dog"])
    assert text.lengths.tolist() == [4, 1, 2]
    ids = torch.tensor([spell("a red apple")])
    plain = vlm.language_model(ids, use_cache=True)
    cache = getattr(plain, "cache", None) or plain.past_key_values
    assert torch.allclose(text.keys[1][:1], cache.layers[1].keys, atol=1e-5)


def test_it_stays_frozen_and_in_eval_mode():
    vlm = tapped("janus")
    vlm.train()
    assert not any(module.training for module in vlm.modules())
    assert not any(weight.requires_grad for weight in vlm.parameters())
    assert not vlm.features(pictures()).requires_grad


def test_its_fingerprint_follows_the_tower_the_text_and_the_view():
    vlm, other = tapped("llava"), tapped("llava")
    assert vlm.fingerprint() == other.fingerprint()
    assert tapped("llava", pool=2).fingerprint() != vlm.fingerprint()
    for part in (other.inner.vision_tower, other.language_model):
        before = other.fingerprint()
        with torch.no_grad():
            next(part.parameters()).add_(1)
        assert other.fingerprint() != before


def test_a_model_whose_features_nobody_located_is_refused():
    with pytest.raises(ValueError, match="features of a 'gpt2' are not known; those of janus, "):
        TappedVLM(GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=10)), spell, 0)


def test_the_size_of_a_timm_tower_is_among_its_arguments():
    assert native_size(SimpleNamespace(model_args={"img_size": [448, 448]})) == 448
    with pytest.raises(ValueError, match=r"set view\.size"):
        native_size(SimpleNamespace(model_args={}))


@pytest.mark.parametrize("family", ["janus", "llava_onevision"])
def test_a_folder_is_loaded_with_its_tokenizer(family, tmp_path):
    model, words = tiny_model(family), tiny_tokenizer()
    model.save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    vlm = load_feature_vlm(tmp_path)
    expected = TappedVLM(model, spell, 0).features(pictures())
    assert torch.allclose(vlm.features(pictures()), expected, atol=1e-6)
    assert vlm.spell("red apple")[0] == words.bos_token_id
    assert len(vlm.text_cache(["red apple", ""])) == 2
    with pytest.raises(ValueError, match="does not know 'zebra'"):
        vlm.text_cache(["a zebra"])


def test_names_that_stand_for_no_feature_vlm_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no readable VLM"):
        load_feature_vlm(tmp_path)
    GPT2Config().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a 'gpt2' model; features are known of janus"):
        load_feature_vlm(tmp_path)


def test_a_prompt_is_spelt_after_bos():
    words = tiny_tokenizer()
    assert spelt(words, "red apple") == [words.bos_token_id, *words.convert_tokens_to_ids(["red", "apple"])]
    assert spelt(words, "") == [words.bos_token_id]
