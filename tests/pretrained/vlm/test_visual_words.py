"""Visual words in real language model classes: new rows, fine-tuning, and a token loop equal to `generate`."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from detokenizers.madit.language import LanguageObjective, chunked_cross_entropy
from detokenizers.nn.sampling import draw, uniforms
from detokenizers.pretrained.vlm.language_models import save_language_model
from detokenizers.pretrained.vlm.visual_vocabulary import ChatPrompts, PlainPrompts, grow, normal_rows
from detokenizers.pretrained.vlm.visual_words import VOCABULARY, VisualWordsVLM
from detokenizers.pretrained.vlm.word_tokenizer import word_tokenizer
from detokenizers.protocols import Grid, TokenVLM
from detokenizers.seeds import item_seeds
from tests.pretrained.vlm.visual import Codes, generated

CODES, SIDE = 20, 3
LOGITS = {"logits": lambda logits, ids: logits}
"""Observes all there is."""
PROMPTS = ["a red apple", "a pear", "green green apple on wood"]
SIZES = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=128, initializer_range=0.3,
)  # fmt: skip


WORDS = word_tokenizer(["a", "red", "green", "apple", "pear", "on", "wood"])


def language_model(kind: str, tied: bool = False, rows: int | None = None):
    torch.manual_seed(0)
    config, model = {"qwen": (Qwen2Config, Qwen2ForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}[kind]
    made = model(config(vocab_size=rows or len(WORDS) + 5, tie_word_embeddings=tied, **SIZES)).eval()
    for parameter in made.parameters():
        if parameter.ndim == 1:  # biases and norms that are not trivial
            parameter.data += 0.1 * torch.randn(parameter.shape)
    made.generation_config = GenerationConfig(repetition_penalty=1.5, top_k=7)  # what a checkpoint may bring along
    return made


def vlm(kind: str = "qwen", tied: bool = False, **more) -> VisualWordsVLM:
    model = language_model(kind, tied)
    vocabulary = grow(model, CODES, prompts=PlainPrompts(), known=len(WORDS), guidance=2.0)
    return VisualWordsVLM(model, WORDS, vocabulary, Codes(CODES, SIDE), **more)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize(("kind", "tied"), [("qwen", False), ("qwen", True), ("llama", False)])
def test_greedy_tokens_are_those_of_generate(kind, tied, guidance):
    model = vlm(kind, tied)
    tokens = model.generate(PROMPTS, seeds=[0, 1, 2], guidance=guidance, greedy=True).ids
    for row, prompt in zip(tokens, PROMPTS):
        assert torch.equal(row, generated(model, prompt, guidance))
    assert len(tokens.unique()) > 3


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_sampled_tokens_follow_the_guided_logits_of_whole_forward_passes(guidance):
    """Each token is drawn from softmax(u + w (c - u)) over visual rows, by the item's own uniform numbers."""
    model = vlm()
    drawn = model.generate(PROMPTS[:1], seeds=[5], guidance=guidance, temperature=0.7, observe=LOGITS)
    vocabulary, first = model.vocabulary, model.vocabulary.first
    u = uniforms([5], SIDE**2)[0]
    for step in range(SIDE**2):
        sides = []
        for prompt in (PROMPTS[0], ""):
            ids = torch.tensor([[*vocabulary.spelt(WORDS, prompt), *(drawn.ids[0, :step] + first).tolist()]])
            sides.append(model.model(ids).logits[0, -1, first : first + CODES])
        guided = (sides[1] + guidance * (sides[0] - sides[1])) / 0.7
        torch.testing.assert_close(drawn.observed["logits"][0, step], guided, atol=1e-4, rtol=1e-3)
        assert int(draw(guided[None], u[step : step + 1])) == int(drawn.ids[0, step])


def test_it_is_a_token_vlm_and_an_image_depends_on_prompt_and_seed_alone():
    model = vlm()
    assert isinstance(model, TokenVLM)
    together = model.generate(PROMPTS, seeds=[3, 4, 5])
    assert together.grid == Grid(SIDE, SIDE)
    assert together.ids.shape == (3, 9)
    assert 0 <= int(together.ids.min()) <= int(together.ids.max()) < CODES
    for i in range(3):
        assert torch.equal(model.generate(PROMPTS[i : i + 1], seeds=[3 + i]).ids, together.ids[i : i + 1])
    assert not torch.equal(model.generate(PROMPTS, seeds=[6, 7, 8]).ids, together.ids)
    assert model.guidance == 2.0


def test_an_item_is_observed_the_same_to_the_bit_in_any_company_of_one_width():
    model = vlm()
    width = model.width(PROMPTS)
    assert width > max(model.prefix([prompt], 2).visible.shape[1] for prompt in PROMPTS)
    together = model.generate(PROMPTS, seeds=[3, 4, 5], observe=LOGITS, batch_size=1, width=width)
    alone = model.generate(PROMPTS[1:2], seeds=[4], observe=LOGITS, batch_size=1, width=width)
    assert torch.equal(alone.observed["logits"], together.observed["logits"][1:2])


def test_unused_codes_are_never_drawn():
    used = torch.arange(CODES) % 4 == 1
    ids = vlm(used=used).generate(["a"] * 8, seeds=range(8), temperature=100.0).ids
    assert set(ids.unique().tolist()) <= set(used.nonzero().flatten().tolist())
    assert len(ids.unique()) == int(used.sum())


def test_distributions_about_given_tokens_are_those_of_the_loop():
    model = vlm()
    drawn = model.generate(PROMPTS, seeds=[0, 1, 2], observe=LOGITS)
    again = model.teacher_forced(PROMPTS, drawn.ids, observe=LOGITS)
    torch.testing.assert_close(again.observed["logits"], drawn.observed["logits"], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("kind", "tied"), [("qwen", False), ("qwen", True), ("llama", False)])
def test_new_rows_have_the_mean_and_covariance_of_the_old_and_old_rows_stay(kind, tied):
    model = language_model(kind, tied, rows=600)
    model.get_input_embeddings().weight.data += 0.5
    before = [table.weight.detach().clone() for table in (model.get_input_embeddings(), model.get_output_embeddings())]
    for table in before:  # padding rows do not belong to the distribution
        table[500:] = 0
    with torch.no_grad():
        model.get_input_embeddings().weight[500:] = 0
        model.get_output_embeddings().weight[500:] = 0
    vocabulary = grow(model, 4000, prompts=PlainPrompts(), known=500, seed=3)
    assert (vocabulary.first, vocabulary.boi, vocabulary.eoi) == (600, 4600, 4601)
    assert vocabulary.rows % 128 == 0
    tables = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
    assert (tables[0] is tables[1]) is tied
    for old, table in zip(before, tables):
        assert table.shape[0] == vocabulary.rows == model.config.vocab_size
        assert torch.equal(table[:600], old)
        new, real = table[600:4602].detach(), old[:500]
        assert (new.std(0) / real.std(0)).sub(1).abs().max() < 0.1
        assert (new.mean(0) - real.mean(0)).abs().max() < 0.1 * real.std()
        error = (torch.cov(new.T) - torch.cov(real.T)).norm() / torch.cov(real.T).norm()
        assert error < 0.25  # 4,000 samples of 32 x 32
        assert len(torch.unique(new.bfloat16(), dim=0)) == len(new)


def test_two_matrices_of_one_distribution_get_rows_that_are_drawn_apart():
    model = language_model("qwen")
    entrance, leaving = (table.weight.data for table in (model.get_input_embeddings(), model.get_output_embeddings()))
    leaving.copy_(entrance)
    vocabulary = grow(model, 500, prompts=PlainPrompts())
    new = [table.weight[vocabulary.first :] for table in (model.get_input_embeddings(), model.get_output_embeddings())]
    assert abs(float(torch.corrcoef(torch.stack([part.detach().flatten() for part in new]))[0, 1])) < 0.1


def test_covariance_of_many_drawn_rows_converges_even_when_it_is_singular():
    torch.manual_seed(0)
    table = torch.randn(12, 6).double() @ torch.randn(6, 32).double() + 1  # rank 6
    new = normal_rows(table, 20_000, seed=0)
    wanted = torch.cov(table.T)
    assert (torch.cov(new.T) - wanted).norm() / wanted.norm() < 0.05
    assert torch.linalg.matrix_rank(new - new.mean(0), rtol=1e-6) <= 6
    torch.testing.assert_close(normal_rows(table, 3, seed=0, scale=0.0), table.mean(0).expand(3, -1))


def test_transformers_own_resizing_still_draws_all_but_equal_rows():
    """Why `grow` does not use it; when this fails, upstream has mended it."""
    model = language_model("qwen", rows=600)
    model.get_input_embeddings().weight.data += 0.5  # bfloat16 is coarse away from zero
    std = float(model.get_input_embeddings().weight.std(0).mean())
    model.resize_token_embeddings(1600, mean_resizing=True)
    new = model.get_input_embeddings().weight[600:]
    assert float(new.std(0).mean()) / std < 1e-3
    assert len(torch.unique(new.detach().bfloat16(), dim=0)) < 50


def test_prompts_are_spelt_by_the_chat_template_and_the_empty_one_by_the_same():
    tokenizer = word_tokenizer(["a", "pear", "user", "assistant", "end"])
    tokenizer.chat_template = (
        "{% for m in messages %}user {{ m['content'] }} end {% endfor %}"
        "{% if add_generation_prompt %}assistant{% endif %}"
    )
    model = language_model("qwen")
    vocabulary = grow(model, CODES, prompts=ChatPrompts())
    named = tokenizer.get_vocab()
    spelt = [named[name] for name in ("user", "a", "pear", "end", "assistant")]
    assert vocabulary.spelt(tokenizer, "a pear") == [*spelt, vocabulary.boi]
    assert vocabulary.spelt(tokenizer, "") == [spelt[0], *spelt[3:], vocabulary.boi]
    plain = vocabulary.vary(prompts=PlainPrompts())
    assert plain.spelt(tokenizer, "a") == [tokenizer.bos_token_id, named["a"], vocabulary.boi]


def test_what_does_not_fit_is_refused(tmp_path):
    model = language_model("qwen")
    vocabulary = grow(model, CODES, prompts=PlainPrompts())
    with pytest.raises(ValueError, match="do not fit a model of 128 rows and a tokenizer of 21 codes"):
        VisualWordsVLM(model, WORDS, vocabulary, Codes(21, SIDE))
    with pytest.raises(ValueError, match="does not know 'zebra'"):
        vlm().generate(["a zebra"], seeds=[0])
    with pytest.raises(ValueError, match=f"no config file at .*{VOCABULARY}"):
        VisualWordsVLM.from_pretrained(tmp_path, Codes(CODES, SIDE))


@pytest.mark.parametrize("tied", [False, True])
def test_a_saved_model_draws_the_same_tokens(tmp_path, tied):
    model = vlm(tied=tied)
    save_language_model(model.model, WORDS, tmp_path, dtype=torch.float32)
    (tmp_path / VOCABULARY).write_text(model.vocabulary.to_yaml())
    again = VisualWordsVLM.from_pretrained(tmp_path, Codes(CODES, SIDE))
    assert torch.equal(again.generate(PROMPTS, seeds=[1, 2, 3]).ids, model.generate(PROMPTS, seeds=[1, 2, 3]).ids)
    assert again.fingerprint() == model.fingerprint()


def objective(model, vocabulary, **more) -> LanguageObjective:
    empty = vocabulary.spelt(WORDS, "")
    return LanguageObjective(model, first=vocabulary.first, boi=vocabulary.boi, empty=empty, **more)


def sft_batch(vocabulary, prompts=PROMPTS):
    rows = [vocabulary.spelt(WORDS, prompt) for prompt in prompts]
    longest = max(map(len, rows))
    words = torch.tensor([[-1] * (longest - len(row)) + row for row in rows])
    tokens = torch.randint(CODES, (len(rows), SIDE**2), generator=torch.Generator().manual_seed(1))
    return {"words": words, "tokens": tokens, "seeds": item_seeds(0, 0, len(rows))}


def test_chunks_and_whole_logits_give_one_loss_and_one_gradient():
    torch.manual_seed(0)
    hidden, weight = torch.randn(50, 8, requires_grad=True), torch.randn(30, 8, requires_grad=True)
    target = torch.randint(30, (50,))
    whole = F.cross_entropy(hidden @ weight.T, target)
    parts = chunked_cross_entropy(hidden, weight, target, chunk=7)
    torch.testing.assert_close(parts, whole)
    for mine, theirs in zip(torch.autograd.grad(parts, [hidden, weight]), torch.autograd.grad(whole, [hidden, weight])):
        torch.testing.assert_close(mine, theirs)


def test_the_loss_is_transformers_own_with_labels_after_boi():
    model = language_model("qwen")
    vocabulary = grow(model, CODES, prompts=PlainPrompts())
    batch = sft_batch(vocabulary)
    losses, counts = [], []
    for row, tokens in zip(batch["words"], batch["tokens"]):
        prompt = row[row >= 0]
        ids = torch.cat([prompt, tokens + vocabulary.first, torch.tensor([vocabulary.eoi])])[None]
        labels = ids.clone()
        labels[:, : len(prompt)] = -100
        losses.append(model(ids, labels=labels).loss)
        counts.append(SIDE**2 + 1)
    torch.testing.assert_close(
        objective(model, vocabulary).eval()(batch)["loss"], torch.stack(losses).mean(), atol=1e-5, rtol=1e-5
    )
    visual = objective(model, vocabulary, over="visual").eval()(batch)["loss"]
    assert visual < torch.stack(losses).mean()


def test_dropped_prompts_are_the_empty_prompt():
    model = language_model("qwen")
    vocabulary = grow(model, CODES, prompts=PlainPrompts())
    batch = sft_batch(vocabulary)
    dropped = objective(model, vocabulary, drop=0.999).train()(batch)["loss"]
    empty = {**sft_batch(vocabulary, ["", "", ""]), "tokens": batch["tokens"]}
    torch.testing.assert_close(objective(model, vocabulary).eval()(empty)["loss"], dropped, atol=1e-5, rtol=1e-5)
    assert not torch.isclose(objective(model, vocabulary).eval()(batch)["loss"], dropped, atol=1e-4)


def test_prompts_are_learnt_and_drawn():
    torch.manual_seed(0)
    model = language_model("qwen")
    vocabulary = grow(model, CODES, prompts=PlainPrompts(), guidance=1.0)
    learner, batch = objective(model.train(), vocabulary, drop=0.0), sft_batch(vocabulary)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    first = None
    for _ in range(60):
        loss = learner(batch)["loss"]
        first = float(loss.detach()) if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.2 * first
    made = VisualWordsVLM(model, WORDS, vocabulary, Codes(CODES, SIDE))
    assert (made.generate(PROMPTS, seeds=[0, 1, 2], greedy=True).ids == batch["tokens"]).float().mean() > 0.9
