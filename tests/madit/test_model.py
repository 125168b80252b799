"""Algorithm 1: what an image depends on, and what it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from detokenizers.checkpoint import load_tensors, save_tensors
from detokenizers.flow.noise import noise
from detokenizers.madit.heads import Flow, Full, Regression
from detokenizers.madit.model import WEIGHTS, MaDiT
from detokenizers.madit.orders import AtRandom, ConstantWeight, LinearWeight, Order, PosteriorKL, Raster, round_sizes
from detokenizers.madit.patches import patchify
from detokenizers.protocols import VisualTokens

from . import tiny

CAPTIONS = ["a red apple on wood", "a pear", "green"]


@pytest.fixture(scope="module", params=[1, 2], ids=["a-token-a-patch", "fewer-tokens"])
def codes(request, vae):
    return tiny.tokenizer(vae, stride=request.param)


@pytest.fixture(scope="module")
def tokens(codes):
    return tiny.tokens(codes)


def plain(model: MaDiT, tokens: VisualTokens, seeds, captions=None) -> torch.Tensor:
    """Algorithm 1 as the paper writes it: one image at a time, one branch at a time, all contexts, no slices."""
    sampling, codes = model.config.sampling, model.codes
    drawn = []
    for i, seed in enumerate(seeds):
        one = VisualTokens(tokens.ids[i : i + 1], tokens.grid, {k: v[i : i + 1] for k, v in tokens.observed.items()})
        order = sampling.order(codes, one, [seed])[0].tolist()
        eps = noise((codes.layout.patches.size, codes.patch_dim), [seed])[0]
        words = None if captions is None else model.vocabulary(captions[i : i + 1])
        x, known = torch.zeros(1, len(order), codes.patch_dim), []
        for size in round_sizes(len(order), sampling.rounds):
            new = order[len(known) : len(known) + size]
            visible = torch.tensor([known], dtype=torch.long)
            weight = sampling.guidance(len(known) + size, len(order))
            rows = codes.codebook[one.ids]
            cond = model.trunk(rows, x, visible, words)
            uncond = model.trunk(rows, x, visible, words, torch.tensor([True]))
            for patch in new:
                z = eps[patch][None, None]
                for step in range(sampling.decoding.steps):
                    t = torch.tensor([1 - step / sampling.decoding.steps])
                    v = weight * model.head.bound(cond[:, [patch]])(z, t)
                    v = v + (1 - weight) * model.head.bound(uncond[:, [patch]])(z, t)
                    z = z - v / sampling.decoding.steps
                x[:, patch] = z[0]
            known += new
        drawn.append(x)
    return torch.cat(drawn)


@pytest.mark.parametrize("text", ["none", "encoder", "encoder_decoder"])
@pytest.mark.parametrize("guidance", [ConstantWeight(weight=1.0), ConstantWeight(weight=3.0), LinearWeight(weight=2.0)])
def test_it_equals_algorithm_1_written_out(codes, tokens, text, guidance):
    captions = None if text == "none" else CAPTIONS
    model = tiny.model(codes, text=text, **{"sampling.guidance": guidance})
    torch.testing.assert_close(
        model.latents(replace(tokens, captions=captions), seeds=[5, 6, 7]),
        plain(model, tokens, [5, 6, 7], captions),
        atol=1e-4, rtol=1e-3,
    )  # fmt: skip


def test_an_image_depends_on_its_own_tokens_caption_and_seed_alone(codes, tokens):
    model = tiny.model(codes, text="encoder_decoder")
    told = replace(tokens, captions=CAPTIONS)
    together = model.latents(told, seeds=[5, 6, 7])
    for i in range(3):
        alone = model.latents(told[i : i + 1], seeds=[5 + i])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-4, rtol=1e-3)
    assert torch.equal(together, model.latents(VisualTokens.join([told[:2], told[2:]]), seeds=[5, 6, 7]))
    assert not torch.allclose(together, model.latents(told, seeds=[5, 6, 8]), atol=1e-3)
    other = replace(told, captions=[*CAPTIONS[:2], "red"])
    changed = (model.latents(other, seeds=[5, 6, 7]) - together).abs().amax((1, 2)) > 1e-4
    assert changed.tolist() == [False, False, True]


def test_an_empty_caption_is_none(codes, tokens):
    model = tiny.model(codes, text="encoder_decoder")
    silent = replace(tokens, captions=["", "", CAPTIONS[2]])
    torch.testing.assert_close(model.latents(silent)[:2], model.latents(tokens)[:2], atol=1e-4, rtol=1e-3)
    assert not torch.allclose(model.latents(silent)[2], model.latents(tokens)[2], atol=1e-3)
    unread = tiny.model(codes, text="none")
    assert torch.equal(unread.latents(silent), unread.latents(tokens))


def test_the_order_changes_nothing_in_one_round_and_something_in_five(codes, tokens):
    orders = [Order(score=Raster()), Order(score=Raster(), descending=True), Order(score=AtRandom()), Order()]
    for rounds, same in ((1, True), (5, False)):
        drawn = [
            tiny.model(codes, **{"sampling.order": order, "sampling.rounds": rounds}).latents(tokens)
            for order in orders
        ]
        assert all(torch.allclose(drawn[0], one, atol=1e-5) is same for one in drawn[1:])


def test_in_one_round_a_linear_weight_is_the_constant_one(codes, tokens):
    drawn = [
        tiny.model(codes, **{"sampling.guidance": weight, "sampling.rounds": 1}).latents(tokens)
        for weight in (ConstantWeight(weight=3.0), LinearWeight(weight=3.0), ConstantWeight(weight=1.0))
    ]
    torch.testing.assert_close(drawn[0], drawn[1])
    assert not torch.allclose(drawn[0], drawn[2], atol=1e-2)


def test_a_flow_that_has_learnt_nothing_draws_what_regression_draws_through_all_rounds(codes, tokens):
    flow = tiny.model(codes, live=False)
    regression = tiny.model(codes, live=False, **{"sampling.decoding": Regression()})
    torch.testing.assert_close(flow.latents(tokens), regression.latents(tokens), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("weight", [1.0, 3.0])
@pytest.mark.parametrize("rounds", [1, 4])
def test_a_head_that_knows_the_patches_draws_them_exactly(codes, tokens, weight, rounds):
    model = tiny.model(codes, live=False, **{"sampling.guidance.weight": weight, "sampling.rounds": rounds})
    truth = torch.randn(1, codes.patch_dim)
    model.head.coarse.weight.zero_()
    model.head.coarse.bias.copy_(truth[0])
    drawn = model.latents(tokens)
    torch.testing.assert_close(drawn, truth.expand_as(drawn), atol=1e-4, rtol=1e-4)


def test_the_full_velocity_is_another_model(codes, tokens):
    full = tiny.model(codes, live=False, **{"head.velocity": Full()})
    eps = noise((16, codes.patch_dim), range(3))
    torch.testing.assert_close(full.latents(tokens), eps, msg="a velocity of zero leaves the noise where it is")


def test_every_round_adds_its_patches_and_changes_none_that_were_there(codes, tokens):
    model = tiny.model(codes)
    order, before = model.config.sampling.order(codes, tokens, range(3)), torch.zeros(3, 16, codes.patch_dim)
    done = 0
    for size, patches in zip(round_sizes(16, 5), model.rounds(tokens), strict=True):
        changed = (patches != before).any(-1)
        expected = torch.zeros(3, 16, dtype=torch.bool).scatter(1, order[:, done : done + size], True)
        assert torch.equal(changed, expected)
        before, done = patches, done + size
    assert torch.equal(before, model.latents(tokens))


def test_images_come_out_and_steps_are_rounds(codes, tokens):
    model = tiny.model(codes)
    images = model(tokens, seeds=[1, 2, 3])
    assert images.shape == (3, 3, 16, 16)
    assert images.abs().max() <= 1
    assert model.steps == 5
    two = tiny.model(codes, **{"sampling.rounds": 2})
    torch.testing.assert_close(model(tokens, steps=2), two(tokens))
    seen = []
    model(tokens, steps=3, progress=lambda steps: (seen.append(step) or step for step in steps))
    assert seen == [0, 1, 2]


def test_reading_images_gives_their_tokens_and_the_oracle_its_order(codes):
    model, images = tiny.model(codes, **{"sampling.order": Order(score=PosteriorKL())}), tiny.images(2)
    tokens = model.read(images, codes)
    assert torch.equal(tokens.ids, codes.tokens(codes.features(images)))
    assert model(tokens).shape == images.shape
    with pytest.raises(ValueError, match="needs the image"):
        model(VisualTokens(tokens.ids, tokens.grid, {}))


def test_what_does_not_fit_is_refused_in_one_line(codes, tokens, vae):
    model = tiny.model(codes, text="encoder")
    wrong = tiny.tokenizer(vae, stride=3 - codes.config.token_stride)
    with pytest.raises(ValueError, match=r"decodes .* tokens, the tokenizer draws"):
        model.require(wrong)
    other = tiny.tokenizer(vae, stride=codes.config.token_stride)
    other.quantiser.book.copy_(other.quantiser.book.flip(0))
    with pytest.raises(ValueError, match="another codebook of the same size"):
        model.require(other)
    model.require(codes)
    with pytest.raises(ValueError, match="16 patches can be drawn in 1 to 16 rounds, not in 17"):
        model(tokens, steps=17)
    with pytest.raises(ValueError, match="not in 0"):
        model(tokens, steps=0)
    with pytest.raises(ValueError, match=r"run from .* to 12; this codebook has 12"):
        model(VisualTokens(torch.full_like(tokens.ids, 12), tokens.grid, {}))
    with pytest.raises(ValueError, match="a caption of 7 words is too long; this model reads 6"):
        model(replace(tokens, captions=["a red apple on a red apple"] * 3))
    with pytest.raises(ValueError, match="the word 'zebra'"):
        model(replace(tokens, captions=["a zebra"] * 3))
    with pytest.raises(ValueError, match="3 images but 1 captions"):
        replace(tokens, captions=["a"])


def test_a_saved_model_draws_the_same(codes, tokens, tmp_path):
    model = tiny.model(codes, text="encoder_decoder")
    model.vocabulary.rows.copy_(model.vocabulary.rows.half().float())
    model.save(tmp_path)
    again = MaDiT.load(tmp_path)
    told = replace(tokens, captions=CAPTIONS)
    assert torch.equal(again(told), model(told))
    assert again.fingerprint() == model.fingerprint()
    assert (tmp_path / "decoder.yaml").read_text().startswith("kind: madit\n")
    weights = load_tensors(tmp_path / WEIGHTS)
    changed = {**weights, "head.coarse.bias": weights["head.coarse.bias"] + 1}
    save_tensors(tmp_path / WEIGHTS, changed)
    assert MaDiT.load(tmp_path).fingerprint() != model.fingerprint()
    weights.pop("head.coarse.bias")
    save_tensors(tmp_path / WEIGHTS, weights)
    with pytest.raises(ValueError, match=r"missing head\.coarse\.bias"):
        MaDiT.load(tmp_path)


def test_damaged_weights_are_reported(codes, tokens):
    model = tiny.model(codes)
    model.head.coarse.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="drawn latents are not finite"):
        model(tokens)


def test_flow_steps_are_not_rounds(codes, tokens):
    assert not torch.allclose(
        tiny.model(codes).latents(tokens),
        tiny.model(codes, **{"sampling.decoding": Flow(steps=9, solver="heun")}).latents(tokens),
        atol=1e-3,
    )


def test_patches_are_laid_out_as_the_space_has_them(codes):
    shown = tiny.images(2)
    latents = codes.space.encode(shown)
    torch.testing.assert_close(codes.draw(patchify(latents, 2)), codes.space.decode(latents))
