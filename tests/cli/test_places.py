"""Where a command reads and writes: folders that cannot be written, names that lead out of them, files of somebody else.
Each gets one line before any work is done, and nothing is touched."""

from __future__ import annotations

import gzip
import json
import os
import shutil

import pytest
from PIL import Image

from detokenizers.cli import main
from detokenizers.device import rank, world_size
from detokenizers.drawing.decoders import labelled

pytestmark = pytest.mark.usefixtures("embedded")
PROMPT = "a dog on grass"


@pytest.fixture
def refused(capsys):
    """Run a command that must be refused; returns its last line."""

    def run(*arguments: object) -> str:
        assert main([str(argument) for argument in arguments]) == 2
        return capsys.readouterr().err.splitlines()[-1]

    return run


@pytest.mark.parametrize(
    "command",
    [
        ["generate", PROMPT, "--decoder", "vq", "--out", "NOWHERE"],
        ["reconstruct", "--world", "1", "--decoder", "vq", "--out", "NOWHERE"],
        ["describe", "--world", "1", "--out", "NOWHERE/captions.jsonl"],
        ["calibrate", "--world", "1", "--out", "NOWHERE/calibration.json"],
        ["train", "mini.world_net", "--out", "NOWHERE"],
        ["evaluate", "--world", "2", "--save-reference", "NOWHERE/real.safetensors"],
    ],
    ids=lambda command: command[0],
)
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_loaded(refused, monkeypatch, tmp_path, command):
    for loader in ("drawing.generation.load_vlm", "drawing.reconstruction.load_tokenizer", "dcdd.calibration_run.load_vlm",
                   "evaluation.understanding.load_vlm", "mini.runs.World"):  # fmt: skip
        monkeypatch.setattr(f"detokenizers.{loader}", None)
    (tmp_path / "file").write_text("mine")
    arguments = [argument.replace("NOWHERE", str(tmp_path / "file" / "out")) for argument in command]
    assert f"{tmp_path / 'file'} is read-only, or a file" in refused(*arguments)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert f"{tmp_path} is read-only" in refused(*(argument.replace("/file", "") for argument in arguments))
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]


def test_a_decoder_is_called_after_its_folder_however_the_way_there_is_written(tmp_path, monkeypatch, embedded):
    shutil.copytree(embedded / "mini" / "dcdd", tmp_path / "mine" / "sub" / "..", dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path / "mine")
    (tmp_path / "mine" / "sub").mkdir(exist_ok=True)
    assert [label for label, _ in labelled([".", "sub/..", "../mine/", "mini/dcdd", "owner/name"])] == [
        *("mine", "mine", "mine", "dcdd", "name")
    ]  # fmt: skip
    out = tmp_path / "out"
    assert main(["generate", PROMPT, "--decoder", ".", "--steps", "1", "--out", str(out)]) == 0
    assert [path.parent.name for path in out.rglob("a-dog-on-grass.png")] == ["mine"]


@pytest.mark.parametrize("name", ["manifest.jsonl", "sheet.png", "tokens", ".processes"])
def test_no_decoder_takes_the_place_of_what_belongs_to_the_folder(refused, tmp_path, embedded, name):
    shutil.copytree(embedded / "mini" / "dcdd", tmp_path / name)
    out = tmp_path / "out"
    assert "that folder is taken" in refused("generate", PROMPT, "--decoder", tmp_path / name, "--out", out)
    assert not out.exists()


def test_drawn_pictures_do_not_join_those_that_are_reconstructed(refused, tmp_path):
    Image.new("RGB", (16, 16), "red").save(tmp_path / "photo.png")
    line = refused("reconstruct", tmp_path, "--decoder", "vq", "--out", f"{tmp_path}/../{tmp_path.name}")
    assert "holds the pictures themselves" in line
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_captions_replace_captions_and_nothing_else(refused, tmp_path, capsys):
    out = tmp_path / "captions.jsonl"
    out.write_text('{"id": "mine", "caption": "of a year of work"}\n')
    assert "was not written by detok describe and would be lost" in refused("describe", "--world", "1", "--out", out)
    assert "a year of work" in out.read_text()
    out.unlink()
    for _ in range(2):
        assert main(["describe", "--world", "1", "--max-tokens", "2", "--out", str(out)]) == 0
    assert json.loads(out.read_text())["vlm"] == "mini"


def test_a_tar_that_is_compressed_is_refused_and_not_read_at_the_wrong_places(refused, tmp_path):
    Image.new("RGB", (16, 16), "red").save(tmp_path / "photo.png")
    shutil.make_archive(str(tmp_path / "plain"), "tar", tmp_path, "photo.png")
    (tmp_path / "small.tar").write_bytes(gzip.compress((tmp_path / "plain.tar").read_bytes()))
    ask = ["--decoder", "vq", "--out", str(tmp_path / "out")]
    assert "small.tar is not a readable tar (" in refused("reconstruct", tmp_path / "small.tar", *ask)
    assert main(["reconstruct", str(tmp_path / "plain.tar"), *ask]) == 0


def test_what_is_no_file_is_no_picture(refused, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    line = refused("reconstruct", tmp_path / "pipe.png", "--out", tmp_path / "out")
    assert "pipe.png is neither a file nor a folder" in line


def test_a_folder_of_no_run_cannot_be_distilled(refused, tmp_path):
    assert "mini/dcdd has no run.yaml" in refused("distill", "mini/dcdd", "--out", tmp_path / "out")


@pytest.mark.parametrize(
    ("number", "count"), [("1", None), ("x", "2"), ("2", "2"), ("-1", "2"), ("0", "0"), (None, "many")]
)
def test_a_process_without_a_place_among_all_does_nothing(refused, monkeypatch, tmp_path, number, count):
    for name, value in (("RANK", number), ("WORLD_SIZE", count)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    for command in (
        ["generate", PROMPT, "--out", tmp_path / "out"],
        ["evaluate", tmp_path, "--world", "2"],
        ["recipes"],
    ):
        assert f"RANK is {number or '0'!r} and WORLD_SIZE {count or '1'!r}" in refused(*command)
    assert not (tmp_path / "out").exists()


def test_empty_variables_of_a_launcher_are_none(monkeypatch):
    monkeypatch.setenv("RANK", "")
    monkeypatch.setenv("WORLD_SIZE", "")
    assert (rank(), world_size()) == (0, 1)


def test_files_that_are_not_text_are_one_line_wherever_one_is_read(refused, tmp_path, embedded, capsys):
    """A manifest that goes on in bytes, the prompt of a benchmark's folder, the config beside weights."""
    out, junk = tmp_path / "out", b"\xff\xfe\n"
    assert main(["generate", PROMPT, "--decoder", "vq", "--out", str(out)]) == 0
    with (out / "manifest.jsonl").open("ab") as manifest:
        manifest.write(junk)
    assert "manifest.jsonl:2: this is not UTF-8 text" in refused("generate", PROMPT, "--decoder", "vq", "--out", out)
    asked = tmp_path / "geneval" / "00000"
    asked.mkdir(parents=True)
    (asked / "metadata.jsonl").write_bytes(junk)
    assert "metadata.jsonl:1: this is not UTF-8" in refused("evaluate", tmp_path / "geneval", "--bench", "geneval")
    weights = shutil.copytree(embedded / "mini" / "vae", tmp_path / "vae")
    (weights / "config.json").write_bytes(junk)
    assert "config.json:1: this is not UTF-8 text" in refused("info", weights)
    (weights / "config.json").write_text("[]")
    capsys.readouterr()
    assert main(["info", str(weights)]) == 0
    assert "unnamed" in capsys.readouterr().out
    judge = shutil.copytree(embedded / "mini" / "world_net", tmp_path / "judge")
    (judge / "run.yaml").write_text("- 1\n")
    (out / "manifest.jsonl").unlink()
    assert main(["generate", "--world", "2", "--decoder", "vq", "--out", str(tmp_path / "two")]) == 0
    ask = ["--world", "2", "--split", "prompts", "--metrics", "agreement", "--net", judge, "--out", tmp_path / "scores"]
    assert "run.yaml holds no settings" in refused("evaluate", tmp_path / "two", *ask)
