"""Tokens with their distributions: what is kept, and that a decided one is a hard token."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from detokenizers.madit.distributions import Both, ExpectedKL, Hard, Mean, Summary, widened
from detokenizers.madit.orders import CodewordKL, Order, ScatteredTies
from detokenizers.protocols import VisualTokens

from . import tiny


@pytest.fixture(scope="module")
def codes(vae):
    return tiny.tokenizer(vae, stride=2)


def summary(codes) -> Summary:
    return Both().summary(codes)


def distribution(codes, ids: torch.Tensor, sharpness: float = 1.0) -> torch.Tensor:
    torch.manual_seed(7)
    return (sharpness * torch.randn(*ids.shape, codes.config.codes)).softmax(-1)


def test_a_distribution_on_the_sampled_code_is_summed_up_by_zeros_and_its_kl(codes):
    ids = torch.arange(12)
    kept = summary(codes).of(torch.eye(12), ids)
    torch.testing.assert_close(kept[:, :10], torch.zeros(12, 10), atol=1e-6, rtol=0)
    torch.testing.assert_close(kept[:, 10:], codes.codewords.complete(codes.codewords.kl))
    torch.testing.assert_close(Both().decided(codes, ids[None])[0], kept, atol=1e-6, rtol=1e-6)


def test_what_is_kept_are_the_lean_of_the_mean_code_and_the_expected_nats(codes):
    ids = torch.tensor([3, 4])
    q = distribution(codes, ids)
    kept = Summary(codes.codebook, codes.codewords.kl, doubt=2.0)(q.log() + 5, ids)
    torch.testing.assert_close(kept[:, :6], q @ codes.codebook - codes.codebook[ids])
    entropy = -(q * q.log()).sum(-1, keepdim=True)
    torch.testing.assert_close(kept[:, 10:], q @ codes.codewords.kl + 2.0 * entropy, rtol=1e-5, atol=1e-4)
    with pytest.raises(ValueError, match="12 codes but the distribution is over 13"):
        summary(codes)(torch.zeros(1, 13), torch.zeros(1, dtype=torch.long))


def test_the_mean_code_is_not_renormalised(codes):
    q = torch.full((1, 12), 1 / 12)
    kept = summary(codes).of(q, torch.tensor([0]))
    mean = kept[0, :6] + codes.codebook[0]
    torch.testing.assert_close(mean, codes.codebook.mean(0), atol=1e-6, rtol=1e-5)
    assert mean.norm() < 1


def test_one_name_for_one_content(codes):
    (name,) = Both().observers(codes)
    assert name == Both().summary(codes).name == Mean().summary(codes).name
    assert name != Both(doubt=1.0).summary(codes).name
    assert name != Summary(codes.codebook.flip(0), codes.codewords.kl).name
    assert Hard().observers(codes) == {}


def test_cutting_a_distribution_to_its_largest_codes_errs_by_no_more_than_the_mass_left_out():
    torch.manual_seed(0)
    rows = F.normalize(torch.randn(200, 8), dim=-1)
    for sharpness in (0.2, 1.0, 3.0):
        q = (sharpness * torch.randn(64, 200)).softmax(-1)
        top, ids = q.topk(32), q.argmax(-1)
        cut = torch.zeros_like(q).scatter(-1, top.indices, top.values)
        kept, short = (Summary(rows, torch.zeros(200, 1)).of(part, ids)[:, :8] for part in (q, cut))
        assert ((kept - short).norm(dim=-1) <= 1 - top.values.sum(-1) + 1e-6).all()
        assert (kept - short).norm(dim=-1).max() > 1e-4


def test_in_the_mean_the_expected_code_is_nearest_then_the_likeliest_then_a_sample():
    torch.manual_seed(0)
    rows = F.normalize(torch.randn(64, 16), dim=-1)
    q = (2 * torch.randn(2000, 64)).softmax(-1)
    true, sampled = (torch.multinomial(q, 1).squeeze(-1) for _ in range(2))
    mean = rows[sampled] + Summary(rows, torch.zeros(64, 1)).of(q, sampled)[:, :16]
    likeliest, drawn = rows[q.argmax(-1)], rows[sampled]
    errors = [float((guess - rows[true]).square().sum(-1).mean()) for guess in (mean, likeliest, drawn)]
    assert errors == sorted(errors)
    assert errors[2] - errors[0] > 0.2


@pytest.fixture(scope="module")
def pair(codes):
    """A model of hard tokens, and one that reads distributions, begun from it."""
    hard = tiny.model(codes)
    both = tiny.model(codes, input={"kind": "both"})
    state = hard.state_dict()
    state["trunk.token_in.weight"] = widened(state["trunk.token_in.weight"], 16)
    both.load_state_dict(state)
    return hard, both


def doubted(codes, ids) -> VisualTokens:
    q = distribution(codes, ids)
    return VisualTokens(ids, codes.grid, {summary(codes).name: summary(codes).of(q, ids)})


def test_before_any_training_it_draws_what_hard_tokens_draw(codes, pair):
    hard, both = pair
    ids = tiny.tokens(codes).ids
    tokens = doubted(codes, ids)
    torch.testing.assert_close(both.latents(tokens), hard.latents(tokens), atol=1e-6, rtol=1e-6)


def test_decided_tokens_are_hard_tokens_whatever_has_been_learnt(codes, pair):
    hard, both = pair
    ids = tiny.tokens(codes).ids
    live = tiny.model(codes, input={"kind": "both"})
    live.load_state_dict(both.state_dict())
    live.trunk.token_in.weight[:, 6:] = torch.randn(16, 10)
    decided = VisualTokens(ids, codes.grid, {summary(codes).name: Both().decided(codes, ids)})
    torch.testing.assert_close(live.latents(decided), hard.latents(decided), atol=1e-6, rtol=1e-6)
    tokens = doubted(codes, ids)
    assert not torch.allclose(live.latents(tokens), hard.latents(tokens), atol=1e-3)


def test_the_mean_alone_forgets_what_was_sampled(codes):
    ids = tiny.tokens(codes).ids
    q = distribution(codes, ids)
    one = Mean()(codes, VisualTokens(ids, codes.grid, {summary(codes).name: summary(codes).of(q, ids)}))
    others = ids.roll(1, -1)
    two = Mean()(codes, VisualTokens(others, codes.grid, {summary(codes).name: summary(codes).of(q, others)}))
    torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(one, q @ codes.codebook, atol=1e-6, rtol=1e-5)
    decided = VisualTokens(ids, codes.grid, {summary(codes).name: Both().decided(codes, ids)})
    torch.testing.assert_close(Mean()(codes, decided), Hard()(codes, decided))


def test_the_expected_order_of_decided_tokens_is_that_of_their_codewords(codes):
    tokens = tiny.tokens(codes)
    decided = VisualTokens(tokens.ids, codes.grid, {summary(codes).name: Both().decided(codes, tokens.ids)})
    plain = Order(score=CodewordKL(), ties=ScatteredTies())(codes, decided, range(3))
    assert torch.equal(Order(score=ExpectedKL())(codes, decided, range(3)), plain)
    assert not torch.equal(Order(score=ExpectedKL())(codes, doubted(codes, tokens.ids), range(3)), plain)


def test_tokens_without_distributions_are_refused(codes, pair):
    _, both = pair
    tokens = VisualTokens(tiny.tokens(codes).ids, codes.grid, {})
    with pytest.raises(ValueError, match="come without distribution-"):
        both(tokens)
    assert both.needs == frozenset(both.observers)


def test_images_that_were_read_are_decided(codes, pair):
    hard, both = pair
    images = tiny.images(2)
    torch.testing.assert_close(
        both.latents(both.read(images, codes)), hard.latents(hard.read(images, codes)), atol=1e-6, rtol=1e-6
    )
