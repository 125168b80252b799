"""Whatever follows the protocols is drawn, kept, reconstructed and measured; and what Python calls is what `detok` does."""

from __future__ import annotations

import json

import pytest

from detokenizers import drawing
from detokenizers.checkpoint import load_tensors
from detokenizers.cli import main
from detokenizers.data.images import notes_of
from detokenizers.evaluation.pairwise import psnr
from tests.drawing.folders import PROMPTS, pictures
from tests.drawing.foreign import Colours, Mixer, Painter, Poster


def test_a_foreign_vlm_and_decoder_generate(tmp_path):
    drawn = drawing.generate(PROMPTS, vlm=Painter(), decoder={"mine": Mixer()}, compare=True, out=tmp_path)
    assert drawn.labels == ("vq", "mine")
    assert all(path.exists() for path in [*drawn.paths("vq"), *drawn.paths("mine"), drawn.sheet])
    assert notes_of(drawn.paths("mine")[0])["vlm"] == "Painter"
    row = drawn.rows[1]
    tokens = Painter().generate([row["prompt"]], seeds=[row["seed"]], observe=Mixer.observers)
    assert load_tensors(tmp_path / "tokens" / f"{row['id']}.safetensors")["ids"].equal(tokens.ids[0])
    assert psnr(drawn.gallery.image("mine", row["id"]), Mixer()(tokens)).item() > 45
    assert row["prompt"] in drawn.table()


def test_a_foreign_model_without_tokens_stands_on_the_same_sheet_and_in_the_same_manifest(tmp_path):
    decoder = {"mine": Mixer(), "poster": Poster()}
    drawn = drawing.generate(PROMPTS, vlm=Painter(), decoder=decoder, guidance=2.0, out=tmp_path)
    assert [row["decoders"] for row in drawn.rows] == [["mine", "poster"]] * 3
    notes = notes_of(drawn.paths("poster")[0])
    assert (notes["weights"], notes["steps"], notes["guidance"]) == ("poster", 3, 2.0)
    expected = Poster()([notes["prompt"]], seeds=[notes["seed"]], guidance=2.0)
    assert psnr(drawn.gallery.image("poster", drawn.rows[0]["id"]), expected).item() > 45


def test_a_decoder_draws_as_many_at_once_as_it_may_however_few_the_vlm_samples(tmp_path, monkeypatch):
    sizes = []
    draw, sample = Mixer.__call__, Painter.generate
    monkeypatch.setattr(
        Mixer, "__call__", lambda self, tokens, **more: sizes.append(len(tokens.ids)) or draw(self, tokens)
    )
    monkeypatch.setattr(
        Painter, "generate", lambda self, texts, **more: sizes.append(-len(texts)) or sample(self, texts, **more)
    )
    several = dict(decoder={"mine": Mixer()}, batch=4, decode_batch=8, per_prompt=4)
    drawn = drawing.generate(PROMPTS[:2], vlm=Painter(), out=tmp_path, **several)
    assert sizes == [-4, -4, 8]
    assert all(path.exists() for path in drawn.paths("mine"))


def test_a_model_without_tokens_needs_no_vlm_and_cannot_reconstruct(tmp_path, monkeypatch):
    monkeypatch.setattr("detokenizers.drawing.generation.load_vlm", None)
    drawn = drawing.generate(PROMPTS[0], decoder={"poster": Poster()}, out=tmp_path)
    assert not (tmp_path / "tokens").exists()
    notes = notes_of(drawn.paths("poster")[0])
    assert notes["guidance"] is None  # its own
    assert not {"vlm", "vlm_weights", "temperature"} & {*notes, *drawn.rows[0]}
    drawing.generate(PROMPTS[0], vlm=Painter(), decoder={"mine": Mixer()}, out=tmp_path)
    both = drawing.generate(PROMPTS[0], decoder={"poster": Poster()}, out=tmp_path)
    assert both.rows[0]["vlm"] == "Painter"
    assert both.rows[0]["decoders"] == ["mine", "poster"]
    with pytest.raises(ValueError, match="poster draws from prompts, not from pictures"):
        drawing.reconstruct(drawn.paths("poster"), vlm=Painter(), decoder={"poster": Poster()}, out=tmp_path / "r")


def test_a_model_without_tokens_draws_with_the_vlm_it_was_made_for_only(tmp_path):
    with pytest.raises(ValueError, match="poster: it was made for posters, not for mini"):
        drawing.generate(PROMPTS[0], vlm="mini", decoder={"poster": Poster()}, out=tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert drawing.generate(PROMPTS[0], vlm="posters", decoder={"poster": Poster()}, out=tmp_path / "b").sheet.exists()


def test_a_model_that_brings_its_vlm_is_held_to_none_that_nobody_named(tmp_path, embedded, monkeypatch, capsys):
    """Its own is another than the one whose tokens are drawn beside it."""
    monkeypatch.setattr("detokenizers.papers.load", lambda name, device: Poster())
    command = ["generate", PROMPTS[0], "--decoder", "vq", "poster"]
    assert main([*command, "--out", str(tmp_path / "a")]) == 0
    assert notes_of(next((tmp_path / "a" / "vq").glob("*.png")))["vlm"] == "mini"
    assert len(list((tmp_path / "a" / "poster").glob("*.png"))) == 1
    capsys.readouterr()
    assert main([*command, "--vlm", "mini", "--out", str(tmp_path / "b")]) == 2
    assert capsys.readouterr().err == "detok: poster: it was made for posters, not for mini\n"
    assert not (tmp_path / "b").exists()


def test_a_call_goes_on_and_refuses_what_was_made_otherwise(tmp_path, monkeypatch):
    drawing.generate(PROMPTS, vlm=Painter(), decoder={"mine": Mixer()}, out=tmp_path)
    monkeypatch.setattr(Painter, "generate", None)
    monkeypatch.setattr(Mixer, "__call__", None)
    assert len(drawing.generate(PROMPTS, vlm=Painter(), decoder={"mine": Mixer()}, out=tmp_path).rows) == 3
    monkeypatch.setattr(Mixer, "fingerprint", lambda self: "another")
    with pytest.raises(ValueError, match="was made with weights = 'mixer', not 'another'"):
        drawing.generate(PROMPTS, vlm=Painter(), decoder={"mine": Mixer()}, out=tmp_path)


def test_a_decoder_of_other_codes_is_refused_by_its_label(tmp_path, monkeypatch):
    monkeypatch.setattr(Colours, "fingerprint", lambda self: "other colours")
    with pytest.raises(ValueError, match="mine: it mixes no other codes than colours"):
        drawing.generate("a dog", vlm=Painter(), decoder={"mine": Mixer()}, out=tmp_path)


def test_foreign_decoders_reconstruct_and_are_evaluated(tmp_path, embedded, capsys):
    drawn = drawing.reconstruct(world=4, vlm=Painter(), decoder={"vq": "vq", "mine": Mixer()}, out=tmp_path)
    assert set(drawn.scores) == {"vq", "mine"}
    assert len(drawn.paths("mine")) == 4
    assert "| mine |" in drawn.table()
    assert main(["evaluate", str(drawn.folder), "--world", "4", "--out", str(tmp_path / "e")]) == 0
    result = json.loads((tmp_path / "e" / "results.json").read_text())
    ours = drawn.scores["mine"]["psnr"]["value"]
    assert result["decoders"]["mine"]["metrics"]["psnr"]["value"] == pytest.approx(ours, abs=1e-9)


@pytest.mark.parametrize("verb", ["generate", "reconstruct"])
def test_three_lines_of_python_leave_what_the_command_leaves(tmp_path, embedded, verb):
    there, here = tmp_path / "detok", tmp_path / "python"
    if verb == "generate":
        main(["generate", *PROMPTS, "--compare", "--steps", "2", "--out", str(there)])
        drawn = drawing.generate(PROMPTS, compare=True, steps=2, out=here)
    else:
        main(["reconstruct", "--world", "2", "--steps", "2", "--out", str(there)])
        drawn = drawing.reconstruct(world=2, steps=2, out=here)
    assert pictures(there) == pictures(here)
    assert (there / "manifest.jsonl").read_bytes() == (here / "manifest.jsonl").read_bytes()
    assert (there / "sheet.png").read_bytes() == drawn.sheet.read_bytes()
    tokens = {path.name: path.read_bytes() for path in (there / "tokens").glob("*")}
    assert tokens == {path.name: path.read_bytes() for path in (here / "tokens").glob("*")}


def test_settings_that_do_not_fit_are_one_line(tmp_path):
    with pytest.raises(ValueError, match="temprature: Extra inputs are not permitted"):
        drawing.generate("a dog", temprature=1.0, out=tmp_path)
    with pytest.raises(ValueError, match="there is nothing to draw"):
        drawing.generate(out=tmp_path)


def test_words_are_prompts_of_their_own_in_python(tmp_path):
    drawn = drawing.generate(["dog", "cat"], vlm=Painter(), decoder={"mine": Mixer()}, out=tmp_path)
    assert [row["prompt"] for row in drawn.rows] == ["dog", "cat"]
