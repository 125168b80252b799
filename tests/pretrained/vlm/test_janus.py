"""The frozen Janus: the token loop against transformers, seeds, guidance, prompts, and loading."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn
from transformers import JanusForConditionalGeneration
from transformers.generation.logits_process import (
    ClassifierFreeGuidanceLogitsProcessor,
    LogitsProcessor,
    LogitsProcessorList,
)

from detokenizers.checkpoint import fingerprint
from detokenizers.pretrained.vlm.janus import JanusVLM, cast, janus_config
from detokenizers.pretrained.vlm.janus_size import JANUS_PRO_1B, JANUS_PRO_7B, JanusSize
from detokenizers.pretrained.vlm.llama_blocks import FEW_ROWS, LlamaBlocks, _Linear
from detokenizers.pretrained.vlm.prompt_formats import JanusChat, PlainWords, prompt_batch
from detokenizers.pretrained.vlm.step_graphs import Recorded
from detokenizers.pretrained.vlm.token_loop import Observations, guide
from detokenizers.protocols import TokenVLM
from tests.pretrained.tiny import CHAT, LOGITS, SOFTMAX, TINY, tiny_janus, tiny_tokenizer, tiny_vlm

PROMPTS = ["a red apple on a wooden table", "two dog and cat"]


@pytest.fixture(scope="module")
def vlm() -> JanusVLM:
    return tiny_vlm()


def by_transformers(vlm: JanusVLM, prompts: list[str], guidance: float = 5.0, **options) -> Any:
    batch = prompt_batch(vlm.form, prompts, branches=1)
    model: Any = vlm.model
    return model.generate(
        batch.ids, attention_mask=batch.visible.long(), generation_mode="image", guidance_scale=guidance, **options
    )


class Sink(LogitsProcessor):
    """Remembers the scores it is shown."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def __call__(self, input_ids, scores):
        self.seen.append(scores.clone())
        return scores


def test_a_janus_vlm_is_a_token_vlm(vlm):
    assert isinstance(vlm, TokenVLM)


def test_a_prompt_that_leaves_no_room_for_its_picture_is_named_with_both_numbers(vlm, monkeypatch):
    positions = vlm.loop.parts.blocks.positions
    room = positions - vlm.loop.num_tokens
    fits, long = "dog " * (room - 2), "dog " * (room - 1)  # BOS and BOI come on top
    vlm.check([fits])
    monkeypatch.setattr(vlm.loop, "sample", None)
    for ask in (lambda: vlm.generate([PROMPTS[0], long], seeds=[0, 1], batch_size=1), lambda: vlm.check([long])):
        with pytest.raises(ValueError, match=rf"'dog dog .* takes {room + 1} positions .* this VLM has {positions}"):
            ask()


@pytest.mark.parametrize("prompt", ["", " ", "?!"])
def test_a_prompt_without_a_word_is_refused(vlm, prompt):
    with pytest.raises(ValueError, match="has no words"):
        vlm.check([prompt])


def test_the_blocks_agree_with_llama_model_on_a_whole_sequence():
    llama = tiny_janus(seed=3).model.language_model
    blocks = LlamaBlocks(llama)
    x = torch.randn(2, 9, 32)
    with torch.no_grad():
        ours = blocks(x, blocks.angles(9))
        theirs = llama(inputs_embeds=x).last_hidden_state
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 2, FEW_ROWS, FEW_ROWS + 1])
def test_a_few_rows_are_multiplied_the_other_way_around_to_the_same(rows, bias):
    torch.manual_seed(0)
    layers, x = [nn.Linear(24, 16, bias=bias), nn.Linear(24, 8, bias=bias)], torch.randn(rows, 24)
    with torch.no_grad():
        found = _Linear(*layers)(x)
        torch.testing.assert_close(found, torch.cat([layer(x) for layer in layers], -1), atol=1e-6, rtol=1e-5)
    assert found.is_contiguous(), "attention wants the columns of a head side by side"


@pytest.mark.parametrize("prompts", [PROMPTS, PROMPTS[:1]], ids=["left-padded pair", "single"])
def test_greedy_tokens_equal_those_of_transformers(vlm, prompts):
    tokens = vlm.generate(prompts, seeds=[0] * len(prompts), greedy=True)
    assert torch.equal(tokens.ids, by_transformers(vlm, prompts, do_sample=False))


def test_observed_logits_are_the_guided_ones_transformers_samples_from(vlm):
    sink = Sink()
    both = LogitsProcessorList([ClassifierFreeGuidanceLogitsProcessor(5.0), sink])
    batch = prompt_batch(vlm.form, PROMPTS, branches=1)
    theirs = vlm.model.generate(
        batch.ids, attention_mask=batch.visible.long(), generation_mode="image", guidance_scale=1.0,
        logits_processor=both, do_sample=False,
    )  # fmt: skip
    ours = vlm.generate(PROMPTS, seeds=[0, 0], greedy=True, observe=LOGITS)
    assert torch.equal(ours.ids, theirs)
    assert all(scores.shape == (2, 64) for scores in sink.seen)
    torch.testing.assert_close(ours.observed["logits"], torch.stack(sink.seen, 1), atol=1e-4, rtol=1e-4)


def test_a_processor_of_the_user_sees_raw_scores_of_both_halves(vlm):
    sink = Sink()
    by_transformers(vlm, PROMPTS, logits_processor=LogitsProcessorList([sink]), do_sample=False)
    assert sink.seen[0].shape == (4, 64)


@pytest.mark.parametrize(("top_k", "kept"), [(None, 50), (0, 64)])
def test_transformers_samples_from_fifty_codes_unless_told_otherwise(vlm, top_k, kept):
    options = {} if top_k is None else {"top_k": top_k}
    probabilities = []
    multinomial = torch.multinomial

    def spy(p, **rest):
        probabilities.append(p)
        return multinomial(p, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "multinomial", spy)
        by_transformers(vlm, PROMPTS[:1], guidance=1.5, do_sample=True, **options)
    assert int((probabilities[0] > 0).sum()) == kept
    assert (
        int((vlm.generate(PROMPTS[:1], seeds=[0], guidance=1.5, observe=SOFTMAX).observed["p"][0, 0] > 0).sum()) == 64
    )


def test_the_decode_step_is_one_graph_with_equal_tokens():
    graphs = []

    def count(graph, example_inputs):
        graphs.append(graph)
        return graph.forward

    plain, compiled = tiny_vlm(), tiny_vlm()
    loop = compiled.loop
    loop.compiled = torch.compile(loop.static_step, fullgraph=True, backend=count, dynamic=False)
    for prompts in (PROMPTS, ["a green dog on the table", "an apple"], ["a green cat on a table", "two apple"]):
        ours = compiled.generate(prompts, seeds=[1, 2], observe=SOFTMAX)
        eager = plain.generate(prompts, seeds=[1, 2], observe=SOFTMAX)
        assert torch.equal(ours.ids, eager.ids)
        torch.testing.assert_close(ours.observed["p"], eager.observed["p"])
    torch._dynamo.reset()
    assert len(graphs) == 1, "one graph for prompts of about one length, none per step"
    large = [node for node in graphs[0].graph.find_nodes(op="placeholder") if node.meta["example_value"].numel() > 1000]
    moving = [node.name for node in large if "_dynamo_static_input_type" not in node.meta["tensor_dict"]]
    assert len(large) > 8
    assert not moving, "a graph copies every input that may move, at every step"


def test_a_recorded_step_draws_the_same_tokens_from_fixed_addresses():
    plain, vlm = tiny_vlm(), tiny_vlm()
    recordings = []

    def record(run):
        """What a CUDA graph does, without CUDA: the same function of the same addresses, again and again."""
        recordings.append(run)
        run()
        return run

    vlm.loop.compiled = Recorded(vlm.loop.static_step, record)
    for prompts, guidance in ((PROMPTS, 5.0), (["an apple", "two dog"], 3.0), (PROMPTS[:1], 5.0), (PROMPTS[:1], 1.0)):
        seeds = list(range(len(prompts)))
        ours = vlm.generate(prompts, seeds=seeds, guidance=guidance, observe=SOFTMAX)
        eager = plain.generate(prompts, seeds=seeds, guidance=guidance, observe=SOFTMAX)
        assert torch.equal(ours.ids, eager.ids)
        torch.testing.assert_close(ours.observed["p"], eager.observed["p"])
    assert len(recordings) == 3, "batch 2, batch 1, and batch 1 without guidance"
    cast(vlm.model, torch.bfloat16)
    vlm.generate(PROMPTS[:1], seeds=[0], guidance=1.0)
    assert len(recordings) == 4, "weights that moved are recorded anew"


def test_guidance_extrapolates_from_uncond_to_cond():
    both = torch.tensor([[2.0, 0.0], [1.0, 1.0]])
    guided = guide(both, 2, 5.0)
    torch.testing.assert_close(guided, torch.tensor([[6.0, -4.0]]))
    torch.testing.assert_close((guided / 2).softmax(-1), torch.tensor([[0.993307, 0.006693]]), atol=1e-6, rtol=0)


def test_guidance_and_temperature_commute_but_guidance_and_top_k_do_not():
    both = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(guide(both, 2, 5.0) / 2, guide(both / 2, 2, 5.0))
    best = lambda x: x.masked_fill(x < x.topk(4).values[..., -1:], 0)  # noqa: E731
    assert not torch.allclose(best(guide(both, 2, 5.0)), guide(best(both), 2, 5.0))


def test_observed_distributions_are_guided_logits_over_the_temperature(vlm):
    hot = vlm.generate(PROMPTS, seeds=[0, 1], temperature=2.0, observe=LOGITS)
    cool = vlm.generate(PROMPTS, seeds=[0, 1], observe=LOGITS)
    torch.testing.assert_close(hot.observed["logits"][:, 0] * 2, cool.observed["logits"][:, 0])


def test_an_item_depends_on_its_prompt_and_seed_not_on_its_batch(vlm):
    prompts, seeds = [*PROMPTS, "cat", "a red apple on a wooden table"], [5, 6, 7, 8]
    together = vlm.generate(prompts, seeds=seeds, observe=SOFTMAX)
    alone = [vlm.generate([p], seeds=[s], observe=SOFTMAX) for p, s in zip(prompts, seeds, strict=True)]
    pairs = vlm.generate(prompts, seeds=seeds, batch_size=2)
    assert torch.equal(together.ids, torch.cat([one.ids for one in alone]))
    assert torch.equal(together.ids, pairs.ids)
    torch.testing.assert_close(
        together.observed["p"], torch.cat([one.observed["p"] for one in alone]), atol=1e-5, rtol=1e-4
    )
    assert not torch.equal(together.ids[0], together.ids[3]), "same prompt, other seed"


def test_observing_changes_no_token(vlm):
    watched = vlm.generate(PROMPTS, seeds=[0, 1], observe=SOFTMAX)
    assert torch.equal(watched.ids, vlm.generate(PROMPTS, seeds=[0, 1]).ids)
    assert watched.observed["p"].shape == (2, 16, 64)


def test_top_k_narrows_the_draw_to_the_likeliest_codes_and_not_what_is_observed(vlm):
    def ranks(top_k):
        tokens = vlm.generate(PROMPTS, seeds=[0, 1], guidance=1.0, temperature=3.0, top_k=top_k, observe=SOFTMAX)
        assert (tokens.observed["p"] > 0).all(), "the distribution is over all codes"
        return (tokens.observed["p"] > tokens.observed["p"].gather(-1, tokens.ids[..., None])).sum(-1)

    assert ranks(1).max() == 0
    assert ranks(4).max() == 3
    assert ranks(0).max() > 8


def test_without_guidance_the_unconditional_half_is_not_run(vlm):
    alone = vlm.generate(PROMPTS, seeds=[0, 1], guidance=1.0, observe=SOFTMAX)
    nearly = vlm.generate(PROMPTS, seeds=[0, 1], guidance=1.0 + 1e-7, observe=SOFTMAX)
    assert vlm.prefix(PROMPTS, 1).embeddings.shape[0] == 2
    torch.testing.assert_close(alone.observed["p"][:, 0], nearly.observed["p"][:, 0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("guidance", [5.0, 1.0])
def test_teacher_forcing_own_tokens_gives_the_distributions_they_were_sampled_from(vlm, guidance):
    drawn = vlm.generate(PROMPTS, seeds=[3, 4], guidance=guidance, temperature=1.3, observe=SOFTMAX)
    forced = vlm.teacher_forced(PROMPTS, drawn.ids, guidance=guidance, temperature=1.3, observe=SOFTMAX).observed["p"]
    torch.testing.assert_close(forced, drawn.observed["p"], atol=1e-5, rtol=1e-4)


def test_teacher_forcing_hands_out_logits_in_chunks_with_their_tokens(vlm, monkeypatch):
    monkeypatch.setattr("detokenizers.pretrained.vlm.token_loop.CHUNK_ROWS", 7)
    ids, sizes = torch.arange(32).view(2, 16), []

    def observe(logits, tokens):
        sizes.append(len(logits))
        return tokens[:, None].float()

    kept = vlm.teacher_forced(PROMPTS, ids, observe={"ids": observe}).observed["ids"]
    assert sizes == [7, 7, 7, 7, 4]
    assert torch.equal(kept[..., 0].long(), ids)


def test_progress_counts_every_token_of_every_image(vlm):
    seen = []
    vlm.generate(
        [*PROMPTS, "cat"], seeds=[0, 1, 2], batch_size=2, progress=lambda done, total: seen.append((done, total))
    )
    assert seen[0] == (2, 48)
    assert seen[-1] == (48, 48)
    assert seen == sorted(seen)


def test_drawing_leaves_the_weights_untouched_and_without_gradients(vlm):
    before = fingerprint(vlm.model.state_dict())
    tokens = vlm.generate(PROMPTS, seeds=[0, 1], observe=SOFTMAX)
    assert fingerprint(vlm.model.state_dict()) == before
    assert not any(weight.requires_grad for weight in vlm.parameters())
    assert not tokens.observed["p"].requires_grad
    assert not tokens.observed["p"].is_inference(), "observed values must be usable in training"


def test_weights_that_are_cast_or_changed_after_wrapping_are_followed():
    vlm = tiny_vlm()
    before = vlm.generate(PROMPTS, seeds=[0, 0], greedy=True).ids
    inner = vlm.model.model.language_model
    inner.half().float()
    with torch.no_grad():
        inner.layers[0].self_attn.k_proj.weight.neg_()
    after = vlm.generate(PROMPTS, seeds=[0, 0], greedy=True).ids
    assert not torch.equal(before, after)
    assert torch.equal(after, by_transformers(vlm, PROMPTS, do_sample=False))


def test_teacher_forcing_follows_weights_that_are_changed_after_wrapping():
    vlm, changed, ids = tiny_vlm(), tiny_janus(), torch.arange(32).view(2, 16)
    for model in (vlm.model, changed):
        with torch.no_grad():
            model.model.language_model.half().float().layers[0].self_attn.k_proj.weight.neg_()
    fresh = JanusVLM(changed, tiny_tokenizer())
    seen = [one.teacher_forced(PROMPTS, ids, observe=SOFTMAX).observed["p"] for one in (vlm, fresh, tiny_vlm())]
    torch.testing.assert_close(seen[0], seen[1], atol=1e-5, rtol=1e-4)
    assert (seen[0] - seen[2]).abs().max() > 0.01


def test_two_wrappers_of_one_model_agree():
    model, words = tiny_janus(), tiny_tokenizer()
    first, second = JanusVLM(model, words), JanusVLM(model, words)
    assert torch.equal(first.generate(PROMPTS, seeds=[1, 2]).ids, second.generate(PROMPTS, seeds=[1, 2]).ids)


def test_grouped_key_heads_run_too():
    llama_size = TINY.vary(heads=4)
    model = tiny_janus(llama_size)
    config: Any = model.config.text_config
    config.num_key_value_heads = 2
    grouped = type(model.model.language_model)(config).eval()
    blocks, x = LlamaBlocks(grouped), torch.randn(1, 5, 32)
    with torch.no_grad():
        torch.testing.assert_close(blocks(x, blocks.angles(5)), grouped(inputs_embeds=x).last_hidden_state)


# Prompts


def test_plain_words_are_bos_words_boi():
    words = tiny_tokenizer()
    ids = PlainWords(words).ids("A red apple, on ice-cream.")
    assert words.convert_ids_to_tokens(ids) == [
        "<bos>", "a", "red", "apple", "on", "ice-cream", "<begin_of_image>"
    ]  # fmt: skip


def test_the_chat_template_is_followed_by_boi():
    words = tiny_tokenizer()
    ids = JanusChat(words, CHAT).ids("red dog")
    assert words.convert_ids_to_tokens(ids) == ["<bos>", "the", "red", "dog", "on", "<begin_of_image>"]


def test_a_chat_template_without_bos_is_refused():
    with pytest.raises(ValueError, match="0 BOS tokens"):
        JanusChat(tiny_tokenizer(), CHAT.replace("{{ bos_token }}", "")).ids("red dog")


def test_the_unconditional_twin_keeps_only_bos_and_boi():
    words = tiny_tokenizer()
    batch = prompt_batch(PlainWords(words), ["red dog", "cat"], branches=2)
    assert [" ".join(words.convert_ids_to_tokens(row)) for row in batch.ids.tolist()] == [
        "<bos> red dog <begin_of_image>",
        "<pad> <bos> cat <begin_of_image>",
        "<bos> <pad> <pad> <begin_of_image>",
        "<pad> <bos> <pad> <begin_of_image>",
    ]
    assert batch.visible.tolist() == [[True] * 4, [False, True, True, True]] * 2


@pytest.mark.parametrize("form", [PlainWords(tiny_tokenizer()), JanusChat(tiny_tokenizer(), CHAT)])
def test_unknown_words_are_named_with_the_closest_known_ones(form):
    with pytest.raises(ValueError, match=r"'Appel' \(closest: apple.*\); 'zzz' \(closest: none\)"):
        form.ids("a red Appel and zzz")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"prompts": "a cat", "seeds": [0]}, "pass a list of prompts"),
        ({"prompts": ["cat"], "seeds": [0, 1]}, "1 prompts but 2 seeds"),
        ({"prompts": [], "seeds": []}, "no prompts"),
        ({"prompts": ["cat"], "seeds": [0], "temperature": 0.0}, "temperature is 0.0"),
        ({"prompts": ["cat"], "seeds": [0], "guidance": float("nan")}, "guidance is nan"),
    ],
)
def test_impossible_requests_are_refused_in_one_line(vlm, request_, message):
    with pytest.raises(ValueError, match=message):
        vlm.generate(**request_)


def test_nan_weights_are_reported_with_their_dtype():
    broken = tiny_vlm()
    with torch.no_grad():
        broken.model.model.language_model.layers[1].mlp.up_proj.weight[0] = torch.nan
    with pytest.raises(ValueError, match=r"not finite in float32"):
        broken.generate(["cat"], seeds=[0])
    with pytest.raises(ValueError, match=r"not finite in float32"):
        broken.teacher_forced(["cat"], torch.zeros(1, 16, dtype=torch.long), observe=SOFTMAX)


def test_logits_that_stop_being_numbers_on_the_way_are_reported_at_the_end():
    """The first token sees the prompt alone, the others what was drawn before them."""
    broken = tiny_vlm()
    with torch.no_grad():
        broken.model.model.generation_embeddings.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"not finite in float32"):
        broken.generate(["cat"], seeds=[0])


# Loading and sizes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("janus")
    tiny_janus(seed=1).half().save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


def test_a_half_precision_folder_loads_as_fp32_and_draws_the_same_tokens(folder):
    loaded = JanusVLM.from_pretrained(folder)
    original = JanusVLM(tiny_janus(seed=1).half().float(), tiny_tokenizer())
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    assert fingerprint(loaded.model.state_dict()) == fingerprint(original.model.state_dict())
    assert torch.equal(loaded.generate(PROMPTS, seeds=[0, 1]).ids, original.generate(PROMPTS, seeds=[0, 1]).ids)
    assert isinstance(loaded.form, PlainWords)


def test_a_wrapped_model_can_be_saved_again(folder, tmp_path):
    vlm = JanusVLM.from_pretrained(folder)
    vlm.generate(["cat"], seeds=[0])
    vlm.model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    assert fingerprint(JanusVLM.from_pretrained(tmp_path).model.state_dict()) == fingerprint(vlm.model.state_dict())


@pytest.mark.parametrize("place", ["tokenizer", "processor_config.json", "chat_template.json"])
def test_a_saved_chat_template_is_found(folder, tmp_path, place):
    tiny_janus().save_pretrained(tmp_path)
    words = tiny_tokenizer()
    if place == "tokenizer":
        words.chat_template = CHAT
    else:
        (tmp_path / place).write_text(json.dumps({"chat_template": CHAT}))
    words.save_pretrained(tmp_path)
    form = JanusVLM.from_pretrained(tmp_path).form
    assert words.convert_ids_to_tokens(form.ids("cat")) == ["<bos>", "the", "cat", "on", "<begin_of_image>"]


def test_in_bfloat16_the_head_and_the_tokenizer_stay_fp32(folder):
    vlm = JanusVLM.from_pretrained(folder, dtype=torch.bfloat16)
    assert vlm.prefix(["cat"], 1).embeddings.dtype == torch.bfloat16
    assert vlm.tokenizer.model.dtype == torch.float32
    assert vlm.tokenizer.codebook.dtype == torch.float32
    tokens = vlm.generate(PROMPTS, seeds=[0, 1], observe=LOGITS)
    assert tokens.observed["logits"].dtype == torch.float32


def test_missing_and_foreign_folders_are_named_in_one_line(tmp_path, folder):
    for name in (tmp_path / "nowhere", "./nowhere", "janus"):
        with pytest.raises(ValueError, match=r"there is no folder .+ a Hub id reads owner/name"):
            JanusVLM.from_pretrained(name)
    with pytest.raises(ValueError, match="holds no readable Janus"):
        JanusVLM.from_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ValueError, match="'llama' model, not 'janus'"):
        JanusVLM.from_pretrained(tmp_path)


def test_weights_with_a_hole_or_cut_off_are_refused(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    vlm = tiny_janus(seed=1)
    vlm.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.generation_head.vision_head.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match=r"does not fit a Janus\w+: missing model\.generation_head\.vision_head\.weight"
    ):
        JanusVLM.from_pretrained(tmp_path)
    data = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="cannot be loaded as a Janus"):
        JanusVLM.from_pretrained(tmp_path)


@pytest.mark.parametrize(("size", "billions"), [(JANUS_PRO_1B, 2.08), (JANUS_PRO_7B, 7.41)])
def test_full_size_janus_has_the_parameters_of_janus_pro(size, billions):
    with torch.device("meta"):
        model = JanusForConditionalGeneration(janus_config(size))
    count = lambda module: sum(weight.numel() for weight in module.parameters())  # noqa: E731
    assert count(model) / 1e9 == pytest.approx(billions, abs=0.01)
    assert count(model.model.vqmodel) / 1e6 == pytest.approx(71.9, abs=0.1)
    assert model.model.vqmodel.quantize.embedding.weight.shape == (16384, 8)
    assert model.model.generation_head.vision_head.weight.shape == (16384, size.hidden)
    assert model.model.vqmodel.config.num_patches == 24
    assert isinstance(model.lm_head, nn.Linear)
    assert model.model.language_model.config.head_dim == 128


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="covers 16 px, but image_size is 64"):
        TINY.vary(image_size=64)
    with pytest.raises(ValueError, match="multiple of 32"):
        TINY.vary(vq_channels=48)
    with pytest.raises(ValueError, match="vocabulary is 8"):
        tiny_janus(JanusSize(**{**TINY.model_dump(), "vocabulary": 8}))


@pytest.mark.parametrize(("num_codes", "steps_together"), [(1024, 16), (16_384, 1), (65_536, 1)])
def test_steps_are_observed_together_only_where_codebooks_are_small(num_codes, steps_together):
    rows = []

    def observe(logits, drawn):
        rows.append(len(drawn))
        return torch.stack([logits[:, 0], drawn.float()], -1)

    observations = Observations({"first": observe, "rows": lambda logits, drawn: drawn[:, None]}, num_codes)
    steps = [(torch.full((2, num_codes), float(step)) + torch.tensor([[0.0], [0.5]]), step) for step in range(18)]
    for logits, step in steps:
        observations.add(logits, torch.tensor([step, 100 + step]))
    stacked = observations.stacked()
    seen = stacked["first"]
    assert max(rows) == 2 * steps_together
    assert sum(rows) == 2 * 18
    assert seen[0].tolist() == [[step, step] for step in range(18)]
    assert seen[1].tolist() == [[step + 0.5, step + 100] for step in range(18)]
    assert stacked["rows"][1, :, 0].tolist() == [step + 100 for step in range(18)]
