"""From prompts to file names and seeds: every script has names, different prompts have different ones, and a seed that
a file gives is the seed of its picture."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import detokenizers as dt
from detokenizers.checkpoint import load_tensors
from detokenizers.cli import main
from detokenizers.data.images import notes_of, save_png
from detokenizers.drawing.items import slug

DOG = "a dog on grass"
APPLE = "a red apple on a wooden table"
PROMPTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300).filter(
    lambda text: any(unicodedata.category(letter)[0] in "LNS" for letter in text)
)


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        (DOG, "a-dog-on-grass"),
        ("一个红苹果", "一个红苹果"),
        ("красное яблоко", "красное-яблоко"),
        ("सेब", "सेब"),
        ("تفاحة حمراء", "تفاحة-حمراء"),
        ("un café", "un-café"),
    ],
)
def test_a_prompt_of_plain_words_is_its_own_name_in_every_script(prompt, name):
    assert slug(prompt) == name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a 红 apple", "a 蓝 apple"),
        ("A dog", "a dog"),
        ("a dog.", "a dog"),
        ("a t-shirt", "a t shirt"),
        ("un café", unicodedata.normalize("NFD", "un café")),
        ("a dog\u2028on grass", "a dog on grass"),
        ("word " * 40 + "one", "word " * 40 + "other"),
        ("图" * 90 + "一", "图" * 90 + "二"),
        ("🍎", "🍏"),
        ("a  dog", "a dog"),
    ],
)
def test_different_prompts_have_different_names(one, other):
    assert slug(one) != slug(other)


@given(PROMPTS)
@settings(derandomize=True, max_examples=200, deadline=None)
def test_a_name_is_one_that_every_file_system_takes(prompt):
    name = slug(prompt)
    assert name == unicodedata.normalize("NFC", name)
    assert all(unicodedata.category(letter)[0] in "LMN" or letter == "-" for letter in name)
    assert 0 < len(name.encode()) <= 255 - len("-9999.safetensors")
    assert not name.startswith("-")


@pytest.mark.usefixtures("embedded")
def test_a_prompt_file_in_any_script_is_drawn_under_its_ids(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "detokenizers.pretrained.vlm.prompt_formats.refuse_unknown_words", lambda tokenizer, prompt: None
    )
    ask = ["generate", "一个红苹果", "一个蓝苹果", "a 红 dog", "--decoder", "vq", "--out", str(tmp_path)]
    assert main(ask) == 0
    assert [notes_of(path)["prompt"] for path in sorted((tmp_path / "vq").iterdir())] == sorted(ask[1:4])


@pytest.mark.usefixtures("embedded")
def test_a_seed_in_a_prompt_file_is_the_seed_of_its_picture(tmp_path):
    rows = [{"prompt": APPLE, "seed": 1}, {"prompt": APPLE, "seed": 2}, {"prompt": DOG, "id": "x", "seed": 2**63 - 1}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def ids(out: Path, name: str) -> torch.Tensor:
        return load_tensors(out / "tokens" / f"{name}.safetensors")["ids"]

    for seed in ("0", "7"):
        out = tmp_path / seed
        ask = ["--prompts", str(tmp_path / "p.jsonl"), "--decoder", "vq", "--seed", seed, "--per-prompt", "2"]
        assert main(["generate", *ask, "--out", str(out)]) == 0
        alone = dt.load_vlm("mini").generate([APPLE, APPLE], seeds=[1, 2]).ids
        assert not alone[0].equal(alone[1])
        assert ids(out, "00000").equal(alone[0])
        assert ids(out, "00001").equal(alone[1])
        assert notes_of(out / "vq" / "x.png")["seed"] == 2**63 - 1
        assert not ids(out, "00000-1").equal(ids(out, "00001-1"))
    assert ids(tmp_path / "0", "00000-1").equal(ids(tmp_path / "7", "00000-1"))


@pytest.mark.usefixtures("embedded")
def test_calibrate_draws_with_the_seeds_of_its_prompt_file(tmp_path, monkeypatch):
    asked: list[int] = []
    generate = dt.load_vlm("mini").__class__.generate

    def noted(self, prompts, *, seeds, **more):
        asked.extend(seeds)
        return generate(self, prompts, seeds=seeds, **more)

    monkeypatch.setattr("detokenizers.pretrained.vlm.token_vlm.LlamaTokenVLM.generate", noted)
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"prompt": DOG, "seed": seed}) + "\n" for seed in (5, 6)))
    ask = ["--world", "4", "--prompts", str(tmp_path / "p.jsonl"), "--out", str(tmp_path / "c.json")]
    assert main(["calibrate", *ask]) == 0
    assert sorted(asked) == [5, 6]


@pytest.mark.usefixtures("embedded")
@pytest.mark.parametrize("mark", ["\u2028", "\x85", "\x0b"])
def test_a_folder_of_prompts_with_odd_line_ends_can_be_evaluated(tmp_path, capsys, mark):
    (tmp_path / "p.txt").write_text(f"a dog{mark}on grass\n{APPLE}\n", encoding="utf-8")
    ask = ["--prompts", str(tmp_path / "p.txt"), "--decoder", "vq", "--out", str(tmp_path / "o")]
    assert main(["generate", *ask]) == 0
    out = str(tmp_path / "scores")
    code = main(["evaluate", str(tmp_path / "o"), "--world", "4", "--metrics", "fd-world", "--out", out])
    assert code == 0, capsys.readouterr().err


@pytest.mark.usefixtures("embedded")
def test_names_of_every_length_that_a_file_system_takes_are_reconstructed(tmp_path):
    for length in (238, 242, 251):
        save_png(tmp_path / "in" / f"{'x' * length}.png", torch.zeros(3, 16, 16))
    assert main(["reconstruct", str(tmp_path / "in"), "--decoder", "vq", "--out", str(tmp_path / "o")]) == 0
    assert len(list((tmp_path / "o" / "vq").iterdir())) == 3
