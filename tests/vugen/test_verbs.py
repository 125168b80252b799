"""VUGEN on the command line: beside decoders of tokens on one sheet, alone, as a reconstruction; and another VLM's tower."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

import detokenizers as dt
from detokenizers.cli import main
from detokenizers.data.images import notes_of
from detokenizers.drawing.gallery import Gallery
from detokenizers.pretrained.vlm.load_features import load_feature_vlm

from ..stack import JANUS, build_vlm
from .tiny import AUTOENCODER, vugen


@pytest.fixture
def shipped(embedded, tmp_path):
    """An untrained `mini/vugen` in the tiny stack."""
    model = vugen(load_feature_vlm("mini"))
    model.config = model.config.vary(vlm="mini")
    model.target.config = AUTOENCODER.vary(vlm="mini")
    folder = embedded / "mini" / "vugen"
    model.save(folder, dtype=torch.float16)
    yield folder
    shutil.rmtree(folder)


def test_three_kinds_of_models_stand_on_one_sheet(shipped, tmp_path, capsys):
    ask = ["generate", "a blue car on grass", "--decoder", "vq", "mini/dcdd", "mini/vugen", "--compare", "--steps", "2"]
    assert main([*ask, "--out", str(tmp_path)]) == 0, capsys.readouterr().err
    (row,) = map(json.loads, (tmp_path / "manifest.jsonl").read_text().splitlines())
    assert row["decoders"] == ["vq", "dcdd", "vugen"]
    assert (tmp_path / "sheet.png").exists()
    notes = notes_of(tmp_path / "vugen" / f"{row['id']}.png")
    assert (notes["guidance"], notes["steps"], "vlm" in notes) == (None, 2, False)  # its own VLM is in its weights
    images = dt.load("mini/vugen")([notes["prompt"]], seeds=[notes["seed"]], steps=2)
    kept = Gallery(tmp_path).image("vugen", row["id"])
    assert (kept - images).abs().max() <= 1 / 255 + 1e-6


def test_alone_it_samples_no_tokens(shipped, tmp_path):
    assert main(["generate", "a dog", "--decoder", "mini/vugen", "--guidance", "1.5", "--out", str(tmp_path)]) == 0
    assert not (tmp_path / "tokens").exists()
    (picture,) = (tmp_path / "vugen").glob("*.png")
    assert notes_of(picture)["guidance"] == 1.5


def test_a_picture_goes_through_reducer_and_pixel_decoder(shipped, tmp_path, capsys):
    ask = [
        "reconstruct",
        "--world",
        "2",
        "--decoder",
        "vq",
        str(shipped / "target"),
        "mini/vugen",
        "--out",
        str(tmp_path),
    ]
    assert main(ask) == 0, capsys.readouterr().err
    scores = json.loads((tmp_path / "results.json").read_text())["decoders"]
    assert set(scores) == {"vq", "target", "vugen"}
    assert scores["vugen"] == scores["target"]


def test_a_tower_for_another_vlm_is_refused_in_one_line(shipped, tmp_path, capsys):
    torch.manual_seed(7)
    build_vlm(tmp_path / "other", JANUS)
    shutil.copytree(shipped.parent / "vlm", tmp_path / "copy")
    capsys.readouterr()
    for decoders in (["mini/vugen"], ["vq", "mini/vugen"]):
        ask = ["generate", "a dog", "--decoder", *decoders, "--vlm"]
        assert main([*ask, str(tmp_path / "other"), "--out", str(tmp_path / "x")]) == 2
        error = capsys.readouterr().err
        assert "mini/vugen: this tower was made for the VLM mini, not for" in error
        assert len(error.splitlines()) == 1
        assert not (tmp_path / "x").exists()
    assert main([*ask, str(tmp_path / "copy"), "--out", str(tmp_path / "y")]) == 0  # the same weights elsewhere


def test_words_that_the_vlm_does_not_know_are_one_line(shipped, tmp_path, capsys):
    assert main(["generate", "a zebra", "--decoder", "mini/vugen", "--out", str(tmp_path / "x")]) == 2
    assert "does not know 'zebra'" in capsys.readouterr().err


def test_a_damaged_tower_and_one_whose_vlm_was_replaced_are_one_line(shipped, embedded, tmp_path, capsys):
    whole = (shipped / "tower.safetensors").read_bytes()
    (shipped / "tower.safetensors").write_bytes(whole[:-8])
    ask = ["generate", "a dog", "--decoder", "mini/vugen", "--out", str(tmp_path / "x")]
    assert main(ask) == 2
    assert "not a readable safetensors file" in capsys.readouterr().err
    (shipped / "tower.safetensors").write_bytes(whole)
    weights = embedded / "mini" / "vlm" / "model.safetensors"
    kept = weights.read_bytes()
    torch.manual_seed(8)
    build_vlm(tmp_path / "other", JANUS)
    weights.write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    try:
        assert main(ask) == 2
    finally:
        weights.write_bytes(kept)
    assert "was trained on another VLM" in capsys.readouterr().err
