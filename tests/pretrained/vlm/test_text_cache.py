"""A copy of the language model over its text cache is a Mixture-of-Transformers; the traps of transformers are held."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaModel, MistralConfig, MistralModel, Qwen2Config, Qwen2Model

from detokenizers.pretrained.vlm.text_cache import TextCache, cache_argument, image_states, padded, trainable_copy

from . import monolith

SIZE = dict(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=50,
    pad_token_id=0,
)
EVEN, UNEVEN = [[3, 4, 5], [6, 7, 8]], [[3, 4, 5, 6], [7]]


def language_model(kind: str = "llama", attention: str = "sdpa"):
    torch.manual_seed(0)
    model = {
        "llama": lambda: LlamaModel(LlamaConfig(**SIZE)),
        "qwen2": lambda: Qwen2Model(Qwen2Config(**SIZE)),
    }[kind]()
    model.set_attn_implementation(attention)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model.eval().requires_grad_(False)


def moved(model):
    """A copy that has learnt something."""
    twin = trainable_copy(model)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in twin.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return twin


def images(count: int = 5, dtype=torch.float32):
    return torch.randn(2, count, 32, generator=torch.Generator().manual_seed(2)).to(dtype)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("texts", [EVEN, UNEVEN], ids=["even", "padded"])
def test_it_is_a_mixture_of_transformers(kind, attention, texts):
    model = language_model(kind, attention)
    twin, (ids, lengths) = moved(model), padded(texts, 0)
    found, _ = image_states(twin, images(), TextCache.read(model, ids, lengths))
    expected = monolith.hidden_states(model, twin, ids, lengths, images())
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize("texts", [EVEN, UNEVEN], ids=["even", "padded"])
def test_its_gradients_are_those_of_a_mixture_of_transformers(texts):
    model = language_model().double()
    twin, (ids, lengths) = moved(model).double(), padded(texts, 0)
    inputs = images(dtype=torch.float64)
    weights = list(twin.parameters())
    found = torch.autograd.grad(
        image_states(twin, inputs, TextCache.read(model, ids, lengths))[0].square().sum(), weights
    )
    expected = torch.autograd.grad(monolith.hidden_states(model, twin, ids, lengths, inputs).square().sum(), weights)
    # The norms of transformers compute in fp32 whatever the weights are.
    assert max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected)) < 1e-7


def test_image_tokens_attend_to_each_other_both_ways_and_to_all_of_the_text():
    model = language_model()
    twin, (ids, lengths) = moved(model), padded(EVEN, 0)
    base = image_states(twin, images(), TextCache.read(model, ids, lengths))[0]
    other = images()
    other[:, -1] += 1
    assert not torch.allclose(image_states(twin, other, TextCache.read(model, ids, lengths))[0][:, 0], base[:, 0])
    ids[:, 0] = 9
    changed = image_states(twin, images(), TextCache.read(model, ids, lengths))[0]
    assert ((changed - base).abs().amax(-1) > 1e-4).all()


def test_what_pads_a_text_changes_nothing():
    model = language_model()
    twin, (ids, lengths) = moved(model), padded(UNEVEN, 0)
    base = image_states(twin, images(), TextCache.read(model, ids, lengths))[0]
    ids[1, 1:] = 33
    assert torch.equal(image_states(twin, images(), TextCache.read(model, ids, lengths))[0], base)
    alone = TextCache.read(model, *padded(UNEVEN[1:], 0))
    assert torch.allclose(image_states(twin, images()[1:], alone)[0], base[1:], atol=1e-5)


def test_a_cache_never_grows_and_can_be_read_again():
    model = language_model()
    twin, text = moved(model), TextCache.read(model, *padded(EVEN, 0))
    cache = text.cache()
    first = twin(inputs_embeds=images(), is_causal=False, use_cache=False, **{cache_argument(twin): cache})
    second = twin(inputs_embeds=images(), is_causal=False, use_cache=False, **{cache_argument(twin): cache})
    assert cache.get_seq_length() == 3
    assert torch.equal(first.last_hidden_state, second.last_hidden_state)


def test_a_fresh_copy_computes_on_text_what_the_language_model_does():
    model = language_model()
    twin, (ids, _) = trainable_copy(model), padded(EVEN, 0)
    assert torch.equal(twin(inputs_embeds=model.embed_tokens(ids)).last_hidden_state, model(ids).last_hidden_state)


def test_a_copy_shares_nothing_with_its_model():
    model = language_model()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    twin = trainable_copy(model)
    owned = {weight.data_ptr() for weight in model.parameters()}
    assert not any(weight.data_ptr() in owned for weight in twin.parameters())
    assert all(weight.requires_grad for weight in twin.parameters())
    assert not any("embed_tokens" in name for name, _ in twin.named_parameters())
    image_states(twin, images(), TextCache.read(model, *padded(EVEN, 0)))
    assert twin.config is not model.config
    assert model.embed_tokens is not None
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("texts", [EVEN, UNEVEN], ids=["even", "padded"])
def test_recomputed_activations_change_neither_outputs_nor_gradients_and_keep_the_text(texts):
    model = language_model()
    twin, text = moved(model).train(), TextCache.read(model, *padded(texts, 0))

    def both(cache):
        output = image_states(twin, images(), cache, layer=1)
        loss = output[0].square().sum() + output[1].square().sum()
        return output[0].detach(), torch.autograd.grad(loss, list(twin.parameters()))

    plain, plain_grads = both(text)
    twin.gradient_checkpointing_enable()
    found, grads = both(text)
    assert torch.equal(found, plain)
    assert all(torch.equal(a, b) for a, b in zip(grads, plain_grads))
    other = TextCache.read(model, *padded([[9, *row[1:]] for row in texts], 0))
    assert not torch.allclose(both(other)[0], found, atol=1e-4)


def test_states_of_a_layer_are_those_between_the_layers():
    model = language_model()
    twin, text = moved(model), TextCache.read(model, *padded(EVEN, 0))
    kept = []
    handle = twin.layers[0].register_forward_hook(lambda module, inputs, output: kept.append(output))
    _, first = image_states(twin, images(), text, layer=1)
    handle.remove()
    assert torch.equal(first, kept[0] if isinstance(kept[0], torch.Tensor) else kept[0][0])


def test_one_text_serves_many_images():
    model = language_model()
    twin, text = moved(model), TextCache.read(model, *padded(EVEN[:1], 0))
    shared = image_states(twin, images(), text.expanded(2))[0]
    assert torch.allclose(shared[1:], image_states(twin, images()[1:], text)[0], atol=1e-5)
    assert text.expanded(2).keys[0].data_ptr() == text.keys[0].data_ptr()
    with pytest.raises(ValueError, match="2 cannot"):
        TextCache.read(model, *padded(EVEN, 0)).expanded(4)


def test_rows_of_a_cache_are_caches():
    model = language_model()
    text, alone = TextCache.read(model, *padded(UNEVEN, 0)), TextCache.read(model, *padded(UNEVEN[:1], 0))
    assert len(text[:1]) == 1
    assert torch.allclose(text[:1].keys[1], alone.keys[1], atol=1e-6)
    assert text[:1].visible(3) is None
    assert text.visible(1).tolist() == [[True] * 5, [True, False, False, False, True]]


def test_a_language_model_with_sliding_windows_is_refused():
    config = MistralConfig(**SIZE, sliding_window=2)
    config.layer_types = ["sliding_attention", "full_attention"]
    with pytest.raises(ValueError, match="this language model has full_attention, sliding_attention"):
        trainable_copy(MistralModel(config))
