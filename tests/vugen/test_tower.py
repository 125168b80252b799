"""The generation tower: it starts at rest, depends on its text, and leaves the VLM as it is."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModel, LlamaConfig

from detokenizers.flow import TimeGrid, euler, guided
from detokenizers.flow.time_shifts import FixedShift
from detokenizers.protocols import Grid
from detokenizers.vugen.tower import Tower

from .tiny import feature_vlm, latents, texts, tower

T = torch.tensor([0.3, 0.8])
TIMES = TimeGrid(shift=FixedShift())(4, (16, 4))


def test_before_training_the_velocity_is_zero():
    vlm = feature_vlm()
    fresh = Tower(vlm.language_model, 4, vlm.grid)
    assert torch.equal(fresh(latents(), T, texts(vlm)), torch.zeros(2, 16, 4))


def test_what_enters_is_as_large_as_word_embeddings():
    vlm = feature_vlm()
    net, words = Tower(vlm.language_model, 4, vlm.grid), vlm.language_model.get_input_embeddings().weight

    def size(x: torch.Tensor) -> float:
        return float(x.square().mean().sqrt())

    entered = net.into(torch.randn(400, 4))
    assert size(entered) == pytest.approx(size(words), rel=0.2)
    assert size(net.positions) == pytest.approx(size(words), rel=0.01)


def test_time_position_and_every_word_matter():
    vlm = feature_vlm()
    net, text = tower(vlm), texts(vlm)
    base = net(latents(), T, text)
    assert (net(latents(), T / 2, text) - base).abs().mean() > 1e-3
    swapped = net(latents()[:, [1, 0, *range(2, 16)]], T, text)
    assert not torch.allclose(swapped[:, [1, 0, *range(2, 16)]], base, atol=1e-3)
    for other in ("the red apple", "a green apple", "a red dog"):
        assert (net(latents(), T, texts(vlm, [other, "two green dog"]))[0] - base[0]).abs().mean() > 1e-4


def test_the_text_is_read_once_for_all_steps_and_both_sides_of_guidance():
    vlm = feature_vlm()
    net, calls = tower(vlm), []
    handle = vlm.language_model.layers[0].register_forward_hook(lambda *_: calls.append(1))
    text, null = vlm.text_cache(["a red apple"] * 2), vlm.text_cache([""]).expanded(2)
    found = euler(guided(net.bind(text), net.bind(null), 3.0), latents(), TIMES)
    handle.remove()
    assert len(calls) == 2  # one prompt batch, one empty prompt; no step adds any

    def again(prompts: list[str]):
        return lambda noisy, t: net(noisy, t, vlm.text_cache(prompts))

    fresh = euler(guided(again(["a red apple"] * 2), again(["", ""]), 3.0), latents(), TIMES)
    assert torch.allclose(found, fresh, atol=1e-5)
    assert torch.equal(euler(guided(net.bind(text), net.bind(null), 3.0), latents(), TIMES), found)


def test_guidance_at_one_is_the_prompt_and_at_zero_is_none():
    vlm = feature_vlm()
    net = tower(vlm)
    with_text, without = net.bind(texts(vlm)), net.bind(vlm.text_cache([""]).expanded(2))
    x = latents()
    assert torch.equal(guided(with_text, without, 1.0)(x, T), with_text(x, T))
    assert torch.allclose(guided(with_text, without, 0.0)(x, T), without(x, T))


def test_both_sides_of_guidance_in_one_batch_are_the_same():
    vlm = feature_vlm()
    net, x = tower(vlm), latents()
    joined = net(torch.cat([x, x]), torch.cat([T, T]), texts(vlm, ["a red apple", "two green dog", "", ""]))
    apart = [net(x, T, texts(vlm)), net(x, T, vlm.text_cache([""]).expanded(2))]
    assert torch.allclose(joined, torch.cat(apart), atol=1e-5)


def test_the_wrong_latents_and_texts_are_refused():
    vlm = feature_vlm()
    net = tower(vlm)
    with pytest.raises(ValueError, match=r"samples \[b 16 4\] latents, not \[2, 16, 3\]"):
        net(latents(channels=3), T, texts(vlm))
    with pytest.raises(ValueError, match="2 images need as many texts, got 1"):
        net(latents(), T, texts(vlm, ["dog"]))


def parameters(language_model: LlamaConfig, channels: int, grid: Grid) -> int:
    with torch.device("meta"):
        model = AutoModel.from_config(language_model)
        counted = sum(weight.numel() for weight in model.parameters()) - model.embed_tokens.weight.numel()
    width = language_model.hidden_size
    around = channels * width + width + 256 * width + width + width**2 + width + width * channels + channels
    return counted + around


def test_on_llama_3_2_1b_it_has_the_parameters_of_the_papers_trainable_tower():
    llama = LlamaConfig(
        hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8,
        vocab_size=128256, tie_word_embeddings=True,
    )  # fmt: skip
    # 973.1 million copied and 5 million new; the paper's 1.2 billion count the 262.7 million embeddings as well.
    assert parameters(llama, 64, Grid(16, 16)) == 973_146_112 + 4_986_944
    assert round((parameters(llama, 64, Grid(16, 16)) + 128256 * 2048) / 1e9, 1) == 1.2


def test_the_count_is_that_of_the_tower_itself():
    vlm = feature_vlm()
    built = sum(weight.numel() for weight in Tower(vlm.language_model, 4, vlm.grid).parameters())
    assert built == parameters(vlm.language_model.config, 4, vlm.grid)
