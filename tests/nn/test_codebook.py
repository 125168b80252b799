"""Codes on the unit sphere: the search, the gradients of each rule, restarts, and what counts as use."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from detokenizers.nn.codebook import IBQ, Averages, Restarts, SimVQ, alarm, perplexity, spherical_means, usage

RULES = [Averages(), SimVQ(), IBQ()]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
def test_ids_are_those_of_the_nearest_unit_row(rule):
    book = rule.build(37, 5, 0.25)
    z = 3 * torch.randn(4, 11, 5)
    distances = (F.normalize(z, dim=-1)[..., None, :] - book.rows()).square().sum(-1)
    assert torch.equal(book(z).ids, distances.argmin(-1))
    assert torch.equal(book.nearest(book.rows()), torch.arange(37))
    torch.testing.assert_close(book.rows().norm(dim=-1), torch.ones(37))


@pytest.mark.parametrize("rule", [Averages(), SimVQ()], ids=lambda rule: rule.kind)
def test_the_forward_value_is_the_code_and_the_jacobian_that_of_the_unit_vector(rule):
    book = rule.build(16, 4, 0.25)
    z = torch.randn(7, 4, requires_grad=True)
    out = book(z)
    torch.testing.assert_close(out.codes, book.rows()[out.ids])
    direction = torch.randn(7, 4)
    (through,) = torch.autograd.grad((out.codes * direction).sum(), z)
    (plain,) = torch.autograd.grad((F.normalize(z, dim=-1) * direction).sum(), z)
    torch.testing.assert_close(through, plain)


def test_reconstruction_alone_never_moves_the_codes_and_the_own_loss_does():
    book = SimVQ().build(16, 4, 0.25)
    z = torch.randn(7, 4, requires_grad=True)
    (weight,) = book.parameters()
    reconstruction = torch.autograd.grad(book(z).codes.square().sum(), [z, weight], allow_unused=True)
    assert reconstruction[0] is not None
    assert reconstruction[1] is None
    both = torch.autograd.grad(book(z).loss, [z, weight])
    assert all(gradient.abs().sum() > 0 for gradient in both)


def test_a_soft_choice_has_the_value_of_one_code_and_the_gradient_of_the_mixture():
    book = IBQ(temperature=0.5).build(16, 4, 0.25)
    z = F.normalize(torch.randn(7, 4), dim=-1).requires_grad_()
    out = book(z)
    torch.testing.assert_close(out.codes, book.rows()[out.ids])
    direction = torch.randn(7, 4)
    to_z, to_rows = torch.autograd.grad((out.codes * direction).sum(), [z, book.weight])
    rows = book.rows().detach()
    soft = (F.normalize(z, dim=-1) @ rows.T / 0.5).softmax(-1) @ rows
    (expected,) = torch.autograd.grad((soft * direction).sum(), z)
    torch.testing.assert_close(to_z, expected)
    assert (to_rows.abs().sum(-1) > 0).all()


def test_a_sharp_soft_choice_has_finite_gradients():
    book = IBQ(temperature=1e-3).build(64, 4, 0.25)
    book(torch.randn(50, 4)).loss.backward()
    assert book.weight.grad.isfinite().all()
    assert book.weight.grad.abs().sum() > 0


def test_entropy_prefers_sharp_choices_of_different_codes():
    def term(z: torch.Tensor) -> float:
        torch.manual_seed(3)
        with_entropy, without = IBQ(entropy=1.0).build(8, 8, 0.0), IBQ(entropy=0.0).build(8, 8, 0.0)
        for book in (with_entropy, without):
            book.weight.data = torch.eye(8)
        return float(with_entropy(z).loss - without(z).loss)

    assert term(torch.eye(8)) == pytest.approx(-torch.tensor(8.0).log().item(), abs=1e-4)
    assert term(torch.eye(8)[:1].expand(8, 8)) == pytest.approx(0, abs=1e-4)
    assert term(torch.ones(8, 8)) == pytest.approx(0, abs=1e-4), "undecided, and all codes alike"


def test_averaged_rows_have_no_gradient_and_only_commitment_reaches_the_vectors():
    z = torch.randn(7, 4, requires_grad=True)
    assert list(Averages().build(16, 4, 0.25).parameters()) == []
    (gradient,) = torch.autograd.grad(Averages().build(16, 4, 0.0)(z).loss, z)
    assert gradient.abs().sum() == 0
    (gradient,) = torch.autograd.grad(Averages().build(16, 4, 0.25)(z).loss, z)
    assert gradient.abs().sum() > 0


def test_commitment_weighs_the_vectors_and_not_the_codes():
    book = SimVQ().build(16, 4, 0.25)
    z = F.normalize(torch.randn(9, 4), dim=-1).requires_grad_()
    codes = book.rows()[book.nearest(z)].detach().requires_grad_()
    to_z, to_codes = torch.autograd.grad(book.loss(z, codes), [z, codes])
    torch.testing.assert_close(to_z, 0.25 * 2 * (z - codes) / 9)
    torch.testing.assert_close(to_codes, 2 * (codes - z) / 9)


def test_permuting_rows_permutes_ids_and_nothing_else():
    book = Averages().build(16, 4, 0.25)
    z, order = torch.randn(50, 4), torch.randperm(16)
    before = book(z)
    book.book.copy_(book.book[order])
    after = book(z)
    assert torch.equal(order[after.ids], before.ids)
    torch.testing.assert_close(after.codes, before.codes)


def test_an_update_moves_each_code_towards_its_own_vectors():
    book = Averages(decay=0.5).build(2, 2, 0.25)
    book.seed(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    first = int(book.nearest(torch.tensor([1.0, 0.0])))
    z = F.normalize(torch.tensor([[1.0, 1.0], [1.0, 1.0]]), dim=-1)
    book.update(z, torch.tensor([first, first]))
    # total = half of (1, 0) and half of the two vectors, each in units of one vector a code.
    expected = F.normalize(0.5 * torch.tensor([1.0, 0.0]) + 0.5 * z.sum(0), dim=-1)
    torch.testing.assert_close(book.rows()[first], expected)
    torch.testing.assert_close(book.rows()[1 - first], torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(book.count[first], torch.tensor(0.5 + 0.5 * 2))


def test_a_dead_code_restarts_on_a_vector_of_the_batch_once_it_is_old_enough():
    book = Averages(decay=0.5, restarts=Restarts(below=0.1, age=5)).build(8, 3, 0.25)
    z = F.normalize(torch.randn(40, 3), dim=-1)
    alive = torch.arange(40) % 7  # code 7 never wins
    restarted = [book.update(z, alive).tolist() for _ in range(6)]
    assert restarted == [[]] * 5 + [[7]]
    assert bool((book.rows()[7] == z).all(-1).any() | torch.isclose(book.rows()[7], z).all(-1).any())
    assert book.age.tolist() == [6] * 7 + [0]
    assert book.count[7] == 1


def test_no_code_restarts_below_no_count():
    book = Averages(decay=0.5, restarts=Restarts(below=0.0, age=0)).build(8, 3, 0.25)
    before = book.rows()[7].clone()
    for _ in range(6):
        assert len(book.update(torch.randn(40, 3), torch.arange(40) % 7)) == 0
    torch.testing.assert_close(book.rows()[7], before)


def test_fast_restarts_keep_most_codes_in_use_where_slow_ones_do_not():
    def used(restarts: Restarts, decay: float) -> float:
        torch.manual_seed(1)
        book = Averages(decay=decay, restarts=restarts).build(64, 8, 0.25)
        book.book.copy_(F.normalize(torch.randn(64, 8) * 0.02 + torch.ones(8), dim=-1))  # collapsed to one direction
        book.total.copy_(book.book)
        for _ in range(80):
            z = torch.randn(128, 8)
            book.update(z, book.nearest(z))
        return usage(torch.bincount(book.nearest(torch.randn(4000, 8)), minlength=64))

    assert used(Restarts(), 0.97) > 0.9
    assert used(Restarts(below=0.03, age=200), 0.99) < 0.7


def test_clusters_are_found_and_too_few_vectors_refused():
    centres = F.normalize(torch.randn(5, 6), dim=-1)
    vectors = (centres[:, None] + 0.01 * torch.randn(5, 100, 6)).flatten(0, 1)
    means = spherical_means(vectors, 12, rounds=20)
    assert ((vectors.div(vectors.norm(dim=-1, keepdim=True)) @ means.T).amax(-1) > 0.99).all()
    with pytest.raises(ValueError, match="4 vectors make no 5 clusters"):
        spherical_means(vectors[:4], 5)


def test_usage_and_perplexity_of_known_histograms():
    assert usage(torch.tensor([2.0, 0.0, 1.0, 1.0])) == 0.75
    assert perplexity(torch.tensor([2.0, 1.0, 1.0, 0.0])) == pytest.approx(2.828427, abs=1e-6)
    assert perplexity(torch.ones(8)) == pytest.approx(8)
    assert alarm(torch.ones(8)) is None
    assert "uses 25% of its 8 codes" in str(alarm(torch.tensor([5.0, 5.0, 0, 0, 0, 0, 0, 0])))


def test_counts_cover_ten_tokens_a_code():
    book = Averages().build(4, 2, 0.25)
    for _ in range(5):
        book.update(torch.randn(8, 2), torch.tensor([0, 1, 2, 3] * 2))
    assert book.counts().tolist() == [10] * 4
    book.update(torch.randn(8, 2), torch.zeros(8, dtype=torch.long))
    assert book.counts().tolist() == [10] * 4, "a window that is not full yet is not read"
