"""What is kept is reused for the same inputs only, nobody else's file is lost, and a mistake leaves a folder usable."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detokenizers.checkpoint import load_tensors, save_tensors, weights_fingerprint
from detokenizers.cli import main
from detokenizers.dcdd.recipes import RECIPES as DCDD
from detokenizers.drawing.batching import evenly
from detokenizers.training.report import LOG
from detokenizers.training.state import STATE

APPLE, BANANA = "a red apple on a wooden table", "a yellow banana on a wooden table"
FAST = ["--metrics", "fd-world", "--resamples", "0"]


def fill(folder: Path, count: int, seed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        # Without compression, so that pictures of one size are files of one size.
        picture = Image.fromarray(rng.integers(256, size=(16, 16, 3), dtype=np.uint8))
        picture.save(folder / f"{index}.png", compress_level=0)
    return folder


@pytest.fixture
def detok(embedded, capsys):
    """Run a command; its exit code and what it said on stderr."""

    def run(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return code, capsys.readouterr().err

    return run


def manifest(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


# C1: results belong to the content they were made from


def test_another_picture_of_the_same_name_is_not_given_the_old_one_s_numbers(tmp_path, detok):
    first, second, out = fill(tmp_path / "a", 1), fill(tmp_path / "b", 1, seed=1), tmp_path / "o"
    ask = ("--decoder", "vq", "--out", out)
    assert detok("reconstruct", first, *ask)[0] == 0
    code, line = detok("reconstruct", second, *ask)
    assert code == 2
    assert "was made with picture =" in line
    assert detok("reconstruct", shutil.copytree(first, tmp_path / "copy"), *ask)[0] == 0


@pytest.mark.parametrize("verb", [["generate", APPLE], ["reconstruct", "--world", "2"]])
def test_a_vlm_that_changed_under_its_name_is_another_vlm(tmp_path, detok, embedded, verb):
    vlm = shutil.copytree(embedded / "mini" / "vlm", tmp_path / "vlm")
    ask = (*verb, "--vlm", vlm, "--decoder", "vq", "--out", tmp_path / "o")
    assert detok(*ask)[0] == 0
    weights = load_tensors(vlm / "model.safetensors")
    name = next(name for name in weights if "vqmodel.decoder" in name and weights[name].is_floating_point())
    save_tensors(vlm / "model.safetensors", weights | {name: weights[name] + 0.01})
    code, line = detok(*ask)
    assert code == 2
    assert "was made with vlm_weights =" in line


def test_a_decoder_whose_image_space_changed_is_another_decoder(tmp_path, detok, embedded):
    dcdd = shutil.copytree(embedded / "mini" / "dcdd", tmp_path / "dcdd")
    ask = ("generate", APPLE, "--decoder", dcdd, "--steps", "1", "--out", tmp_path / "o")
    assert detok(*ask)[0] == 0
    file = next((dcdd / "space").glob("*.safetensors"))
    weights = load_tensors(file)
    name = next(name for name in weights if name.startswith("decoder."))
    save_tensors(file, weights | {name: weights[name] + 0.01})
    code, line = detok(*ask)
    assert code == 2
    assert "was made with weights =" in line


def test_weights_have_one_name_whatever_their_order_and_another_for_any_change():
    weights = {name: torch.randn(3, 4) for name in "abc"}
    changed = {**weights, "b": weights["b"].clone().index_put((torch.tensor(2), torch.tensor(3)), torch.tensor(9.0))}
    same, own = dict(reversed(weights.items())), weights_fingerprint(weights)
    assert weights_fingerprint(same) == own != weights_fingerprint(changed)
    assert weights_fingerprint({**weights, "d": weights["a"]}) != own


def test_judged_pictures_that_were_replaced_with_their_dates_kept_are_measured_again(tmp_path, detok):
    drawn, reference = fill(tmp_path / "d", 4), fill(tmp_path / "r", 4, seed=1)
    ask = ("evaluate", drawn, "--reference", reference, *FAST, "--out", tmp_path / "o")
    assert detok(*ask)[0] == 0
    before = (tmp_path / "o" / "results.json").read_bytes()
    state = (drawn / "2.png").stat()
    shutil.copy(fill(tmp_path / "e", 4, seed=2) / "2.png", drawn / "2.png")
    os.utime(drawn / "2.png", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert (drawn / "2.png").stat().st_size == state.st_size
    code, line = detok(*ask)
    assert code == 0
    assert "measured again" in line
    assert (tmp_path / "o" / "results.json").read_bytes() != before


@pytest.fixture
def recipe(tmp_path: Path, tiny_stack: Path) -> Path:
    """A tiny decoder that learns from the folder `imgs`."""
    from tests.test_recipes import tiny

    images = {"kind": "folder", "path": str(fill(tmp_path / "imgs", 4)), "size": 16}
    run = tiny(DCDD["dcdd.mini"](), tmp_path / "cache").vary({"images": images, "train.save_minutes": 0})
    (tmp_path / "run.yaml").write_text(run.to_yaml())
    return tmp_path / "run.yaml"


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / LOG).read_text().splitlines()]


def test_training_pictures_replaced_by_others_of_their_size_are_encoded_anew(tmp_path, detok, recipe):
    assert detok("train", recipe, "--out", tmp_path / "a")[0] == 0
    fill(tmp_path / "imgs", 4, seed=1)
    assert detok("train", recipe, "--out", tmp_path / "b")[0] == 0
    assert losses(tmp_path / "a") != losses(tmp_path / "b")


def test_a_training_whose_folder_changed_is_refused_and_goes_on_when_it_is_as_it_was(tmp_path, detok, recipe):
    out = tmp_path / "o"
    assert detok("train", recipe, "--out", out)[0] == 0
    more = fill(tmp_path / "more", 5) / "4.png"
    shutil.copy(more, tmp_path / "imgs")
    code, line = detok("train", recipe, "--train.steps", "3", "--out", out)
    assert code == 2
    assert f"the images that {out} was trained with changed since" in line
    assert "train into a new folder" in line
    (tmp_path / "imgs" / "4.png").unlink()
    assert detok("train", recipe, "--train.steps", "3", "--out", out)[0] == 0
    assert len(losses(out)) == 3


# C3: an output is no source


def test_a_folder_that_holds_its_own_output_keeps_its_pictures(tmp_path, detok):
    source = fill(tmp_path / "d", 1)
    for _ in range(2):
        code, line = detok("reconstruct", source, "--decoder", "vq", "--out", source / "o")
        assert code == 0
        assert [row["id"] for row in manifest(source / "o")] == ["0"]
    assert "1 drawn by detok (o)" in line


def test_a_calibration_does_not_draw_its_plot_among_the_pictures(tmp_path, detok):
    source = fill(tmp_path / "d", 2)
    code, line = detok("calibrate", "--images", source, "--num-prompts", "2", "--out", source / "c.json")
    assert code == 2
    assert "whose pictures its plot c.png would join" in line
    assert sorted(path.name for path in source.iterdir()) == ["0.png", "1.png"]


# C4: other people's files


@pytest.mark.parametrize("name", ["manifest.jsonl", "sheet.png"])
@pytest.mark.parametrize("verb", [["generate", APPLE], ["reconstruct", "--world", "2"]])
def test_a_drawing_verb_replaces_nobody_else_s_file(tmp_path, detok, name, verb):
    (tmp_path / name).write_text("mine")
    code, line = detok(*verb, "--decoder", "vq", "--out", tmp_path)
    assert code == 2
    assert f"{name} was not written by detok and would be lost" in line
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["results.json", "results.md", "evaluation.png"])
def test_a_report_replaces_nobody_else_s_file(tmp_path, detok, name):
    drawn, reference = fill(tmp_path / "d", 4), fill(tmp_path / "r", 4)
    out = drawn if name == "results.json" else tmp_path / "o"
    out.mkdir(exist_ok=True)
    (out / name).write_text('{"mine": 1}')
    code, line = detok("evaluate", drawn, "--reference", reference, *FAST, "--out", out)
    assert code == 2
    assert f"{name} was not written by detok" in line
    assert (out / name).read_text() == '{"mine": 1}'
    assert not (out / "shards").exists()


def test_a_calibration_and_a_reference_replace_nobody_else_s_file(tmp_path, detok):
    pictures, mine = fill(tmp_path / "d", 2), tmp_path / "mine"
    mine.mkdir()
    for name, arguments in {
        "c.json": ("calibrate", "--images", pictures, "--num-prompts", "2", "--out", mine / "c.json"),
        "p.png": ("calibrate", "--images", pictures, "--num-prompts", "2", "--out", mine / "p.json"),
        "s.safetensors": ("evaluate", pictures, "--save-reference", mine / "s.safetensors"),
    }.items():
        (mine / name).write_text("mine")
        assert detok(*arguments)[0] == 2
        assert (mine / name).read_text() == "mine"


def test_our_own_files_are_written_again(tmp_path, detok):
    drawn, reference = fill(tmp_path / "d", 4), fill(tmp_path / "r", 4, seed=1)
    for _ in range(2):
        assert detok("evaluate", drawn, "--reference", reference, *FAST, "--out", tmp_path / "o")[0] == 0
    (tmp_path / "o" / "results.json").unlink()
    (tmp_path / "o" / "results.md").unlink()
    assert detok("evaluate", drawn, "--reference", reference, *FAST, "--out", tmp_path / "o")[0] == 0


# C7: order and interruption, to the byte


def kept(folder: Path) -> dict[str, bytes]:
    files = [*folder.rglob("*.png"), *folder.rglob("*.safetensors")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name != "sheet.png"}


@pytest.mark.parametrize("threads", [1, 2])
def test_order_and_interruption_change_no_byte_of_tokens_beliefs_and_pictures(tmp_path, detok, threads):
    colours, things = ("red", "green", "yellow", "blue"), ("dog on grass", "cat and a red apple on a wooden table")
    prompts = [f"a {colour} {thing}" for colour in colours for thing in things][:7]
    lines = [json.dumps({"prompt": text, "id": str(index)}) for index, text in enumerate(prompts)]
    (tmp_path / "there.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "back.jsonl").write_text("\n".join(lines[::-1]) + "\n")
    how = ("--steps", "2", "--batch", "4", "--decode-batch", "2")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for name in ("there", "back"):
            code, line = detok("generate", "--prompts", tmp_path / f"{name}.jsonl", *how, "--out", tmp_path / name)
            assert code == 0, line
        there = kept(tmp_path / "there")
        assert len(there) == 14
        assert kept(tmp_path / "back") == there
        for place in (0, 3, 4):  # as if killed: other batches remain
            (tmp_path / "back" / "tokens" / f"{place}.safetensors").unlink()
            (tmp_path / "back" / "dcdd" / f"{place}.png").unlink()
        assert detok("generate", "--prompts", tmp_path / "back.jsonl", *how, "--out", tmp_path / "back")[0] == 0
        assert kept(tmp_path / "back") == there
    finally:
        torch.set_num_threads(before)


def test_batches_have_one_size_that_threads_share_out_evenly():
    assert [evenly(count, 8) for count in (1, 2, 3, 7, 8, 9, 12, 100)] == [1, 2, 4, 8, 8, 8, 8, 8]
    assert [evenly(20, most) for most in (1, 2, 3, 4, 6, 16)] == [1, 2, 2, 4, 4, 12]


# D: a second prompt, a mistake


def test_a_second_prompt_joins_the_first_in_manifest_sheet_and_evaluation(tmp_path, detok):
    out = tmp_path / "o"
    for prompt in (APPLE, BANANA, APPLE):
        assert detok("generate", prompt, "--decoder", "vq", "--out", out)[0] == 0
    assert [row["prompt"] for row in manifest(out)] == [APPLE, BANANA]
    both = Image.open(out / "sheet.png").size
    assert detok("generate", APPLE, "--decoder", "vq", "--out", tmp_path / "one")[0] == 0
    assert both > Image.open(tmp_path / "one" / "sheet.png").size
    assert detok("evaluate", out, "--world", "10", "--out", tmp_path / "scores")[0] == 0


def test_a_prompt_that_was_never_drawn_is_not_missed_for_ever(tmp_path, detok):
    ask = ("--decoder", "vq", "--batch", "1", "--out", tmp_path)
    assert detok("generate", APPLE, *ask)[0] == 0
    assert detok("generate", BANANA, "a rde apple", *ask)[0] == 2
    assert detok("generate", BANANA, *ask)[0] == 0
    assert [row["prompt"] for row in manifest(tmp_path)] == [APPLE, BANANA]


@pytest.mark.parametrize(
    "mistake",
    [
        ["--train.accumulate", "3"],
        ["--train.betas", "0.9", "1.5"],
        ["--train.seed", str(2**64)],
        ["--images.path", "nowhere"],
        ["--train.track", "nobody"],
    ],
)
def test_a_mistake_leaves_a_folder_that_the_corrected_command_trains_in(tmp_path, detok, recipe, mistake):
    out = tmp_path / "o"
    code, line = detok("train", recipe, *mistake, "--out", out)
    assert code == 2, line
    code, line = detok("train", recipe, "--out", out)
    assert code == 0, line


def test_a_run_that_diverged_says_what_to_do_and_it_can_be_done(tmp_path, detok, recipe):
    out, wild = tmp_path / "o", ("--train.lr", "1e30", "--train.warmup", "0", "--train.steps", "6")
    code, line = detok("train", recipe, *wild, "--train.save_minutes", "9", "--out", out)
    assert code == 2
    assert "lower train.lr (it is 1e+30) or in fp32, into the same folder" in line
    assert detok("train", recipe, "--out", out)[0] == 0
    for text in (out / LOG).read_text().splitlines():
        json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))


def test_weights_that_cannot_draw_any_more_are_no_state_to_go_on_from(tmp_path, detok, recipe):
    wild = ("--train.lr", "1e30", "--train.warmup", "0")
    code, line = detok("train", recipe, *wild, "--out", tmp_path / "o")
    assert code == 2
    assert "nothing can be drawn after step 1" in line
    assert not (tmp_path / "o" / STATE).exists()
    assert detok("train", recipe, "--out", tmp_path / "o")[0] == 0
