"""From images to ids and back, what is known of each codeword, and that tables belong to their tokenizer."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from detokenizers.checkpoint import load_tensors, save_tensors
from detokenizers.madit.codewords import Codewords
from detokenizers.madit.patches import patchify
from detokenizers.madit.tokenizer import CODEWORDS, WEIGHTS, BorrowedConfig, load_codes
from detokenizers.nn.codebook import IBQ, SimVQ
from detokenizers.pretrained.spaces import set_statistics
from detokenizers.protocols import VisualTokenizer

from . import tiny


def test_running_means_move_the_codes_that_occur_and_start_at_first_sight():
    table = Codewords(10, 1, 1)
    table.update(torch.tensor([3, 3, 7]), torch.tensor([[1.0], [3.0], [10.0]]))
    assert table.kl[3] == 2
    assert table.kl[7] == 10
    before = table.kl.clone()
    table.update(torch.tensor([3]), torch.tensor([[4.0]]), alpha=0.01)
    assert float(table.kl[3]) == pytest.approx(2.02)
    others = [code for code in range(10) if code != 3]
    torch.testing.assert_close(table.kl[others], before[others])


def test_the_order_of_samples_changes_no_running_mean():
    torch.manual_seed(0)
    ids, kl = torch.randint(5, (40,)), torch.rand(40, 4)
    shuffled = torch.randperm(40)
    one, other = Codewords(5, 4, 1), Codewords(5, 4, 1)
    for _ in range(2):
        one.update(ids, kl)
        other.update(ids[shuffled], kl[shuffled])
    torch.testing.assert_close(one.kl, other.kl)


def test_a_code_never_seen_reads_as_the_mean_of_those_seen_and_a_restarted_one_is_new():
    table = Codewords(4, 1, 1)
    with pytest.raises(ValueError, match="nothing is known of any codeword"):
        table.lookup(table.kl, torch.tensor([[0]]))
    table.update(torch.tensor([0, 1]), torch.tensor([[2.0], [4.0]]))
    assert table.lookup(table.kl, torch.tensor([[0, 1, 2, 3]])).flatten().tolist() == [2, 4, 3, 3]
    table.forget(torch.tensor([1]))
    assert table.lookup(table.kl, torch.tensor([[0, 1]])).flatten().tolist() == [2, 2]
    table.update(torch.tensor([1]), torch.tensor([[9.0]]))
    assert table.kl[1] == 9


def test_the_exact_pass_is_the_mean_and_variance_over_all_batches():
    torch.manual_seed(0)
    ids, kl, latents = torch.randint(4, (60,)), torch.rand(60, 2), torch.randn(60, 2, 3)
    table = Codewords(5, 2, 3)
    table.update(ids, kl + 100)
    counts = table.exact((ids[i : i + 7], kl[i : i + 7], latents[i : i + 7]) for i in range(0, 60, 7))
    assert counts.tolist() == torch.bincount(ids, minlength=5).tolist()
    for code in range(4):
        mine = ids == code
        torch.testing.assert_close(table.kl[code], kl[mine].mean(0))
        torch.testing.assert_close(table.latents[code], latents[mine].mean(0))
        torch.testing.assert_close(table.variance[code], latents[mine].var(0, correction=0).mean(-1))
    assert table.seen.tolist() == [True] * 4 + [False]


@pytest.mark.parametrize("stride", [1, 2])
def test_it_is_a_visual_tokenizer(vae, stride):
    tokenizer, images = tiny.tokenizer(vae, stride=stride), tiny.images(3)
    assert isinstance(tokenizer, VisualTokenizer)
    features = tokenizer.features(images)
    assert features.shape == (3, (4 // stride) ** 2, 6) == (3, tokenizer.grid.size, 6)
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(features.shape[:2]))
    torch.testing.assert_close(tokenizer.codebook.norm(dim=-1), torch.ones(12))
    ids = tokenizer.tokens(features)
    assert torch.equal(ids, (features @ tokenizer.codebook.T).argmax(-1))
    assert torch.equal(ids, tokenizer.ids(tokenizer.read(images)._asdict()))
    drawn = tokenizer.decode(tokenizer.codebook[ids])
    assert drawn.shape == images.shape
    assert drawn.abs().max() <= 1


def test_plain_decoding_lays_out_the_mean_latents_of_the_codewords(vae):
    tokenizer, images = tiny.tokenizer(vae, stride=2), tiny.images(2, seed=5)
    ids = tokenizer.tokens(tokenizer.features(images))
    latents = tokenizer.codewords.complete(tokenizer.codewords.latents)
    for row, column in ((0, 0), (3, 1)):
        token, part = (row // 2) * 2 + column // 2, (row % 2) * 2 + column % 2
        patch = tokenizer.layout.by_patch(latents[ids])[0, row * 4 + column]
        torch.testing.assert_close(patch, latents[ids[0, token], part])
    with pytest.raises(ValueError, match=r"decodes \[b 4 6\] codes"):
        tokenizer.decode(torch.zeros(1, 3, 6))


def test_ids_do_not_depend_on_the_batch(vae):
    tokenizer, images = tiny.tokenizer(vae), tiny.images(7)
    together = tokenizer.features(images)
    assert torch.equal(together, torch.cat([tokenizer.features(image[None]) for image in images]))
    assert torch.equal(together, tokenizer.features(images.flip(0)).flip(0))


def test_fewer_tokens_than_patches_keep_a_number_for_each_patch_under_a_token(vae):
    tokenizer, images = tiny.tokenizer(vae, stride=2), tiny.images(6)
    read = tokenizer.read(images)
    ids = tokenizer.ids(read._asdict())
    code = int(ids[0, 0])
    under = tokenizer.layout.by_token(read.kl)[ids == code]
    torch.testing.assert_close(tokenizer.codewords.kl[code], under.mean(0))


@pytest.mark.parametrize("rule", [None, SimVQ(), IBQ()], ids=["ema", "simvq", "ibq"])
def test_a_saved_tokenizer_gives_the_same_ids(vae, tmp_path, rule):
    tokenizer, images = tiny.tokenizer(vae), tiny.images(4)
    if rule is not None:
        tokenizer.quantiser = rule.build(12, 6, 0.25).requires_grad_(False)
        read = tokenizer.read(images)
        tokenizer.measure([(tokenizer.ids(read._asdict()), read.patches, read.kl)])
    tokenizer.save(tmp_path)
    again = load_codes(tmp_path)
    assert again.fingerprint() == tokenizer.fingerprint()
    assert torch.equal(again.features(images), tokenizer.features(images))
    assert torch.equal(again.codebook, tokenizer.codebook)
    torch.testing.assert_close(again.codewords.kl, tokenizer.codewords.kl)
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_a_table_of_other_codes_is_refused(vae, tmp_path):
    tokenizer = tiny.tokenizer(vae)
    tokenizer.save(tmp_path)
    weights = load_tensors(tmp_path / WEIGHTS)
    save_tensors(tmp_path / WEIGHTS, weights | {"codebook": F.normalize(torch.randn(12, 6), dim=-1)})
    with pytest.raises(ValueError, match=f"{CODEWORDS} is of the codes of tokenizer .* run the exact pass again"):
        load_codes(tmp_path)
    save_tensors(tmp_path / WEIGHTS, weights | {"codebook": torch.zeros(11, 6)})
    with pytest.raises(ValueError, match=r"does not fit its tokenizer\.yaml"):
        load_codes(tmp_path)


@pytest.mark.parametrize("change", ["scale", "shift", "weights", "patch", "token_stride", "image_size"])
def test_codes_in_another_space_or_of_other_sizes_are_another_tokenizer_s(vae, change):
    tokenizer = tiny.tokenizer(vae)
    before = tokenizer.fingerprint()
    if change in ("scale", "shift"):
        set_statistics(tokenizer.space.autoencoder, 0.3 + (change == "shift"), 0.7 + (change == "scale"))
    elif change == "weights":
        tokenizer.space.autoencoder.encoder.conv_in.weight.mul_(1.1)
    else:
        tokenizer.config = tokenizer.config.vary({change: 2 * getattr(tokenizer.config, change)})
        tokenizer.image_size = tokenizer.config.image_size
    with pytest.raises(ValueError, match=f"is of the codes of tokenizer {before[:8]}, not of"):
        tokenizer.codewords.require(tokenizer.fingerprint())


def test_codes_borrowed_from_another_tokenizer_have_tables_of_their_own(vae, tmp_path):
    own, images = tiny.tokenizer(vae, codes=7), tiny.images(5)
    config = BorrowedConfig(space=own.config.space, image_size=16, codes=7, dim=6)
    borrowed, read = config.build(), own.read(images)
    borrowed.restore({"codebook": own.codebook})
    ids = own.tokens(own.features(images))
    borrowed.measure([(ids, read.patches, read.kl)])
    borrowed.save(tmp_path)
    again = load_codes(tmp_path)
    assert torch.equal(again.codebook, own.codebook)
    mine = own.layout.by_token(read.kl)[ids == ids[0, 0]]
    torch.testing.assert_close(again.codewords.kl[ids[0, 0]], mine.mean(0))
    assert again.fingerprint() != own.fingerprint()


def test_images_of_another_size_are_refused(vae):
    with pytest.raises(ValueError, match=r"reads \[b 3 16 16\] images"):
        tiny.tokenizer(vae).features(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="hold no whole number of patches of 6 px"):
        tiny.tokenizer(vae, patch=3)


def test_latents_are_normalised_and_keep_their_place(vae):
    tokenizer, images = tiny.tokenizer(vae), tiny.images(2)
    space = tokenizer.space
    with torch.no_grad():
        raw = space.autoencoder.encode(images).latent_dist.mean
    torch.testing.assert_close(
        tokenizer.read(images).patches, patchify((raw - space.shift) * space.scale, 2), atol=1e-5, rtol=1e-4
    )
