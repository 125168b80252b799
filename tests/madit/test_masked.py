"""The trunk reads what it may read and nothing else."""

from __future__ import annotations

import pytest
import torch

from detokenizers.madit.masked import MaskedTransformer, TrunkConfig
from detokenizers.madit.patches import Layout
from detokenizers.madit.vocabulary import Words
from detokenizers.nn.prenorm import PreNormBlock, rows_at
from detokenizers.protocols import Grid

LAYOUT = Layout(Grid(4, 4), 2)
SIZE = dict(width=16, encoder=2, decoder=2, heads=2, dropout=0.0)


def trunk(text: str = "encoder_decoder", layout: Layout = LAYOUT) -> MaskedTransformer:
    torch.manual_seed(0)
    made = MaskedTransformer(TrunkConfig(text=text, **SIZE), layout, 6, 8, 5)
    for name in ("dummy", "mask_token", "kinds"):
        getattr(made, name).data.normal_()
    return made.eval()


def some(batch: int = 3, known: int = 5):
    torch.manual_seed(1)
    visible = torch.stack([torch.randperm(16)[:known] for _ in range(batch)])
    words = Words(torch.randn(batch, 4, 5), torch.arange(4) < torch.tensor([[4], [2], [1]])[:batch])
    return torch.randn(batch, 4, 6), torch.randn(batch, 16, 8), visible, words


def test_wanted_rows_of_a_block_are_those_of_the_whole():
    block = PreNormBlock(16, 4)
    torch.nn.init.normal_(block.qkv.bias)
    x, wanted = torch.randn(2, 7, 16), torch.tensor([[3, 0], [6, 6]])
    open_ = torch.rand(2, 7) > 0.3
    for mask in (None, open_):
        torch.testing.assert_close(block(x, mask, wanted), rows_at(block(x, mask), wanted))
    with pytest.raises(ValueError, match="3 heads do not divide a width of 16"):
        PreNormBlock(16, 3)


def test_a_closed_key_is_read_by_nobody_else():
    block, x = PreNormBlock(16, 4), torch.randn(1, 5, 16)
    open_ = torch.tensor([[True, True, False, True, True]])
    other = x.clone()
    other[:, 2] = 9
    rest = [0, 1, 3, 4]
    torch.testing.assert_close(block(x, open_)[:, rest], block(other, open_)[:, rest])
    assert not torch.allclose(block(x)[:, rest], block(other)[:, rest])


def dense(made: MaskedTransformer, tokens, patches, visible, words):
    """The same trunk with all patches in the encoder and hidden ones closed as keys."""
    batch, known = len(tokens), torch.zeros(len(tokens), 16, dtype=torch.bool).scatter(1, visible, True)
    x = made.token_in(tokens) + made.token_positions + made.kinds[0]
    shown = made.patch_in(patches) + made.patch_positions + made.kinds[1]
    caption = made._caption(words, None, x)
    x = torch.cat([x, shown, caption.vectors], 1)
    keys = torch.cat([torch.ones(batch, 4, dtype=torch.bool), known, caption.keep], 1)
    for block in made.encoder:
        x = block(x, keys)
    of_tokens, of_shown, of_words = made.to_decoder(made.encoder_norm(x)).split([4, 16, 4], 1)
    slots = torch.where(known[..., None], of_shown, made.mask_token)
    slots = torch.cat([slots + of_tokens[:, LAYOUT.cell] + made.patch_positions, of_words], 1)
    keys = torch.cat([torch.ones(batch, 16, dtype=torch.bool), caption.keep], 1)
    for block in made.decoder:
        slots = block(slots, keys)
    return made.decoder_norm(slots[:, :16])


def test_the_encoder_over_visible_patches_equals_a_dense_one_with_the_others_masked():
    made, (tokens, patches, visible, words) = trunk(), some()
    torch.testing.assert_close(
        made(tokens, patches, visible, words), dense(made, tokens, patches, visible, words), atol=1e-5, rtol=1e-4
    )


def test_the_order_in_which_visible_patches_are_named_changes_nothing():
    made, (tokens, patches, visible, words) = trunk(), some()
    shuffled = torch.stack([row[torch.randperm(5)] for row in visible])
    torch.testing.assert_close(
        made(tokens, patches, visible, words), made(tokens, patches, shuffled, words), atol=1e-5, rtol=1e-4
    )


def test_hidden_patches_are_never_read_and_visible_ones_are():
    made, (tokens, patches, visible, words) = trunk(), some()
    known = torch.zeros(3, 16, dtype=torch.bool).scatter(1, visible, True)
    context = made(tokens, patches, visible, words)
    hidden = torch.where(known[..., None], patches, torch.full_like(patches, 7.0))
    assert torch.equal(context, made(tokens, hidden, visible, words))
    assert not torch.allclose(context, made(tokens, patches + known[..., None], visible, words))


@pytest.mark.parametrize("text", ["encoder", "encoder_decoder"])
def test_padding_is_inert_and_so_is_a_caption_of_padding_alone(text):
    made, (tokens, patches, visible, words) = trunk(text), some()
    context = made(tokens, patches, visible, words)
    noisy = Words(torch.where(words.keep[..., None], words.vectors, torch.full_like(words.vectors, 50.0)), words.keep)
    torch.testing.assert_close(context, made(tokens, patches, visible, noisy))
    longer = Words(torch.cat([words.vectors, torch.ones(3, 3, 5)], 1), torch.nn.functional.pad(words.keep, (0, 3)))
    torch.testing.assert_close(context, made(tokens, patches, visible, longer), atol=1e-5, rtol=1e-4)
    none = made(tokens, patches, visible, None)
    blank = Words(words.vectors, torch.zeros_like(words.keep))
    torch.testing.assert_close(none, made(tokens, patches, visible, blank), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(none, context, atol=1e-3)
    other = Words(words.vectors + 1, words.keep)
    assert not torch.allclose(context, made(tokens, patches, visible, other), atol=1e-4)


def test_text_reaches_the_decoder_only_where_it_is_kept():
    """With encoder rows that do not mix, only the decoder's own keys can carry them."""
    for text, differs in (("encoder", False), ("encoder_decoder", True)):
        made, (tokens, patches, visible, words) = trunk(text), some()
        for block in made.encoder:  # every row for itself
            block.out.weight.data.zero_()
        context = made(tokens, patches, visible, words)
        other = made(tokens, patches, visible, Words(-words.vectors, words.keep))
        assert torch.allclose(context, other, atol=1e-4) is not differs


def test_without_text_words_change_nothing_and_no_weight_waits_for_them():
    made, (tokens, patches, visible, words) = trunk("none"), some()
    assert torch.equal(made(tokens, patches, visible, words), made(tokens, patches, visible))
    assert made.word_in is None
    assert made.kinds.shape == (2, 16)


def test_the_dummy_side_ignores_tokens_words_and_their_number_but_not_visible_patches():
    made, (tokens, patches, visible, words) = trunk(), some()
    all_dropped = torch.ones(3, dtype=torch.bool)
    dummy = made(tokens, patches, visible, words, all_dropped)
    assert torch.equal(dummy, made(tokens + 5, patches, visible, words, all_dropped))
    shorter = Words(words.vectors[:, :2], words.keep[:, :2])
    for other in (None, shorter, Words(words.vectors + 3, words.keep)):
        torch.testing.assert_close(dummy, made(tokens, patches, visible, other, all_dropped), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(dummy, made(tokens, patches + 1, visible, words, all_dropped), atol=1e-3)
    assert not torch.allclose(dummy, made(tokens, patches, visible, words), atol=1e-3)


def test_dropping_one_item_leaves_the_others_alone():
    made, (tokens, patches, visible, words) = trunk(), some()
    mixed = made(tokens, patches, visible, words, torch.tensor([False, True, False]))
    plain = made(tokens, patches, visible, words)
    torch.testing.assert_close(mixed[[0, 2]], plain[[0, 2]], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(mixed[1], plain[1], atol=1e-3)


def test_a_batch_equals_its_items_one_by_one():
    made, (tokens, patches, visible, words) = trunk(), some()
    together = made(tokens, patches, visible, words, wanted=visible[:, :2])
    for i in range(3):
        row = slice(i, i + 1)
        mine = Words(words.vectors[row, : 4 - i], words.keep[row, : 4 - i])
        alone = made(tokens[row], patches[row], visible[row], mine, wanted=visible[row, :2])
        torch.testing.assert_close(together[row], alone, atol=1e-4, rtol=1e-4)


def test_every_patch_has_the_token_over_it_at_hand():
    """Without attention a slot knows its own token alone."""
    made, (tokens, patches, visible, _) = trunk(), some()
    for block in (*made.encoder, *made.decoder):
        block.out.weight.data.zero_()
    before = made(tokens, patches, visible[:, :0])
    moved = tokens.clone()
    moved[:, 1] += torch.randn(6)
    changed = (made(moved, patches, visible[:, :0]) - before).abs().sum((0, 2)) > 1e-4
    assert changed.tolist() == (LAYOUT.cell == 1).tolist()


def test_positions_of_tokens_and_patches_are_those_of_one_plane():
    same = trunk(layout=Layout(Grid(4, 4)))
    assert torch.equal(same.token_positions, same.patch_positions)
    assert sum(p.numel() for p in same.parameters()) == sum(p.numel() for p in trunk().parameters())


def test_the_paper_s_trunk_has_1133_million_weights_in_its_blocks():
    with torch.device("meta"):
        block = PreNormBlock(1536, 24)
    per_block = sum(parameter.numel() for parameter in block.parameters())
    assert abs(20 * per_block / 1e6 - 566) < 1
