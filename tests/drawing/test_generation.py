"""Prompts to pictures, end to end on a tiny random stack: what is written, that a call goes on where one stopped, and that
pictures depend on weights, prompt and seed alone."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

import detokenizers as dt
from detokenizers.cli import main
from detokenizers.data.images import notes_of
from tests.drawing.folders import PROMPTS, assert_alike, pictures


@pytest.mark.usefixtures("embedded")
def test_generate_draws_every_prompt_with_every_decoder_and_a_sheet(tmp_path, capsys):
    assert main(["generate", *PROMPTS[:2], "--compare", "--steps", "2", "--out", str(tmp_path)]) == 0
    drawn = pictures(tmp_path)
    ids = ["a-dog-on-grass", "a-red-apple-on-a-wooden-table"]
    assert sorted(drawn) == sorted(f"{label}/{id}.png" for label in ("vq", "dcdd") for id in ids)
    notes = notes_of(tmp_path / "dcdd" / f"{ids[1]}.png")
    assert notes["prompt"] == PROMPTS[1]
    assert {"seed", "vlm", "guidance", "temperature", "steps", "weights", "versions"} <= set(notes)
    rows = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == PROMPTS[:2]
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 3 * 192
    out, err = capsys.readouterr()
    assert str(tmp_path / "sheet.png") in out
    assert err == ""


@pytest.mark.usefixtures("embedded")
def test_generate_without_compare_draws_only_what_was_asked(tmp_path):
    assert main(["generate", PROMPTS[0], "--decoder", "vq", "--out", str(tmp_path)]) == 0
    assert list(pictures(tmp_path)) == ["vq/a-dog-on-grass.png"]


@pytest.mark.usefixtures("embedded")
def test_pictures_do_not_depend_on_batch_size_company_or_interruption(tmp_path):
    options = ["--compare", "--steps", "2", "--per-prompt", "2"]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": p, "id": p[:5]}) + "\n" for p in PROMPTS))
    file = ["--prompts", str(tmp_path / "prompts.jsonl")]
    main(["generate", *file, *options, "--batch", "4", "--out", str(tmp_path / "together")])
    main(["generate", *file, *options, "--batch", "1", "--out", str(tmp_path / "alone")])
    together = pictures(tmp_path / "together")
    assert len(together) == 12
    assert len({together[name] for name in together}) == 12
    assert_alike(tmp_path / "alone", tmp_path / "together")

    for path in list((tmp_path / "alone").rglob("*/*.png"))[::2]:
        path.unlink()
    main(["generate", *file, *options, "--batch", "3", "--out", str(tmp_path / "alone")])
    assert_alike(tmp_path / "alone", tmp_path / "together")


@pytest.mark.usefixtures("embedded")
def test_tokens_are_the_same_in_any_company_and_what_is_observed_up_to_rounding():
    vlm, dcdd = dt.load_vlm("mini"), dt.load("mini/dcdd")
    together = vlm.generate(PROMPTS, seeds=[0, 1, 2], observe=dcdd.observers)
    for row, prompt in enumerate(PROMPTS):
        alone = vlm.generate([prompt], seeds=[row], observe=dcdd.observers)
        assert alone.ids.equal(together.ids[row : row + 1])
        for name, observed in alone.observed.items():
            torch.testing.assert_close(observed, together.observed[name][row : row + 1], atol=1e-4, rtol=0)


@pytest.mark.usefixtures("embedded")
def test_generate_again_draws_nothing_and_more_per_prompt_keeps_the_first(tmp_path, monkeypatch):
    ask = ["generate", PROMPTS[0], "--steps", "2", "--out", str(tmp_path)]
    main(ask)
    first = (tmp_path / "dcdd" / "a-dog-on-grass.png").stat().st_mtime_ns
    monkeypatch.setattr("detokenizers.pretrained.vlm.token_loop.TokenLoop.sample", None)
    assert main(ask) == 0
    monkeypatch.undo()
    assert (tmp_path / "dcdd" / "a-dog-on-grass.png").stat().st_mtime_ns == first


@pytest.mark.usefixtures("embedded")
def test_a_decoder_added_later_draws_from_the_same_tokens(tmp_path, monkeypatch):
    main(["generate", PROMPTS[0], "--steps", "2", "--out", str(tmp_path)])
    monkeypatch.setattr("detokenizers.pretrained.vlm.token_loop.TokenLoop.sample", None)
    assert main(["generate", PROMPTS[0], "--steps", "2", "--compare", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "vq" / "a-dog-on-grass.png").exists()


@pytest.mark.usefixtures("embedded")
@pytest.mark.parametrize("change", [["--seed", "1"], ["--guidance", "2"], ["--steps", "3"]])
def test_pictures_made_otherwise_are_not_passed_off_as_asked(tmp_path, capsys, change):
    ask = ["generate", PROMPTS[0], "--steps", "2", "--out", str(tmp_path)]
    main(ask)
    before = pictures(tmp_path)
    capsys.readouterr()
    assert main([*ask, *change]) == 2
    assert "was made with" in capsys.readouterr().err
    assert pictures(tmp_path) == before
