"""Captions as rows of a table: by whole words of a closed world, by pieces of a language model's tokenizer."""

from __future__ import annotations

import runpy
import sys

import pytest
import torch

from detokenizers.madit.language_runs import vocabulary_of
from detokenizers.madit.vocabulary import Vocabulary
from detokenizers.pretrained.vlm.language_models import PublishedLanguageModel, SmallQwen, save_language_model
from detokenizers.pretrained.vlm.visual_vocabulary import tables
from detokenizers.pretrained.vlm.word_tokenizer import word_tokenizer
from tests.test_runs import RUNS

from . import tiny


def test_words_are_their_rows_whatever_stands_between_them():
    vocabulary = tiny.vocabulary()
    words = vocabulary(["A red apple, on wood.", "pear", ""])
    assert words.keep.tolist() == [[True] * 5, [True, *[False] * 4], [False] * 5]
    assert torch.equal(words.vectors[0], vocabulary.rows[[0, 1, 3, 5, 6]])
    assert vocabulary(["", ""]).keep.shape == (2, 0)
    with pytest.raises(ValueError, match="the word 'zebra' of 'a zebra' is not among this table's 7 words"):
        vocabulary(["a zebra"])
    with pytest.raises(ValueError, match="a caption of 7 words is too long; this model reads 6"):
        vocabulary(["a red apple on a red apple"])


def test_of_a_long_caption_in_pieces_the_beginning_is_read_and_one_line_says_so(caplog):
    words = word_tokenizer(["a", "red", "pear"])
    vocabulary = Vocabulary(words.backend_tokenizer, torch.randn(len(words), 5), length=3)
    asked = words("a red red pear", add_special_tokens=False)["input_ids"]
    assert vocabulary.ids(["a red red", "a red red pear", "pear " * 200]).tolist() == [asked[:3]] * 2 + [asked[3:] * 3]
    assert [record.message for record in caplog.records] == [
        "only the first 3 pieces of a caption are read, not the end of 'a red red pear'..."
    ]


def test_a_published_language_model_asks_no_source_for_its_words(tmp_path):
    model, words = SmallQwen(hidden=24, layers=1, heads=2, intermediate=16).build(["a", "red", "pear"])
    save_language_model(model, words, tmp_path, dtype=torch.float32)

    class Endless:
        def __len__(self):
            raise AssertionError("ten million captions are not to be read")

    _, found = PublishedLanguageModel(name=str(tmp_path)).build(vocabulary_of(Endless()))
    assert found.get_vocab() == words.get_vocab()
    with pytest.raises(AssertionError, match="ten million"):
        SmallQwen().build(vocabulary_of(Endless()))


def test_a_language_model_s_table_is_kept_as_it_is_now_with_its_own_spelling(tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    model, words = SmallQwen(hidden=24, layers=1, heads=2, intermediate=16).build(["a", "red", "pear"])
    save_language_model(model, words, tmp_path / "model", dtype=torch.float32)
    monkeypatch.setattr(sys, "argv", ["build_piece_rows.py", str(tmp_path / "model"), str(tmp_path / "rows")])
    runpy.run_path(str(RUNS.parent / "scripts" / "build_piece_rows.py"), run_name="__main__")
    assert f"{len(words)} rows of 24 numbers" in capsys.readouterr().out
    vocabulary = Vocabulary.load(tmp_path / "rows", length=4)
    asked = words("a red pear", add_special_tokens=False)["input_ids"]
    assert vocabulary.ids(["a red pear", "pear"]).tolist() == [asked, [asked[2], -1, -1]]
    table = tables(model)[0].half().float()
    assert torch.equal(vocabulary(["a red pear"]).vectors[0], table[asked])
    again = Vocabulary.load(tmp_path / "rows")
    assert again.fingerprint() == vocabulary.fingerprint() != tiny.vocabulary().fingerprint()
    with torch.no_grad():
        tables(model)[0].add_(1)  # what fine-tuning does to the model reaches no snapshot
    assert torch.equal(vocabulary(["pear"]).vectors[0, 0], table[asked[2]])
    (tmp_path / "rows" / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="holds no table of words"):
        Vocabulary.load(tmp_path / "rows")
