"""Bad input gets one clear line and exit code 2, no traceback, nothing half-written: the table of design.md §4."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from PIL import Image

import detokenizers
from detokenizers.checkpoint import load_tensors, save_tensors
from detokenizers.cli import main
from detokenizers.decoder import CodeDecoder
from detokenizers.failure import one_line
from detokenizers.protocols import Grid, VisualTokens
from tests import stack

pytestmark = pytest.mark.usefixtures("embedded")
PROMPT = "a dog on grass"


@pytest.fixture
def refusal(capsys, tmp_path):
    """Run a command that must be refused; returns its one line after checking all else."""

    def run(*arguments: object) -> str:
        before = sorted(tmp_path.rglob("*"))
        code = main([str(argument) for argument in arguments])
        error = capsys.readouterr().err
        assert code == 2, error
        assert "Traceback" not in error
        assert error.startswith("detok: ")
        assert len(error.splitlines()) == 1
        left = [path for path in tmp_path.rglob("*") if path not in before and path.is_file()]
        assert left == []
        return error

    return run


@pytest.mark.parametrize(
    ("arguments", "clue"),
    [
        (["generat"], "generate, reconstruct"),
        (["generate", PROMPT], "--out"),
        (["generate", PROMPT, "--ou", "x"], "--ou"),
        (["generate", PROMPT, "--steps", "0", "--out", "x"], "greater than or equal to 1"),
        (["generate", PROMPT, "--steps", "many", "--out", "x"], "--steps: expected {None}|INT, got ['many'] (see"),
        (
            ["generate", PROMPT, "--seed", "-1", "--out", "x"],
            "detok: --seed Input should be greater than or equal to 0, got",
        ),
        (["generate", PROMPT, "--decoder", "vq", "--temperature", "inf", "--out", "x"], "a positive, finite number"),
        (["generate", PROMPT, "--out", ""], "an argument is empty"),
        (["generate", PROMPT, "--decoder", __file__, "--out", "x"], "is a file; a decoder is named by its folder"),
        (["generate", PROMPT, "--temperature", "0", "--out", "x"], "greater than 0"),
        (["generate", PROMPT, "--device", "abacus", "--out", "x"], "abacus"),
        (["generate", "--out", "x"], "nothing to draw"),
        (["generate", "a", "red", "apple", "--out", "x"], 'generate "a red apple", and for 3 pictures in a file'),
        (
            ["generate", "--decoder", "vq", PROMPT, "--out", "x"],
            "--decoder takes every word that follows it, here 'vq' 'a",
        ),
        (["reconstruct", "--decoder", "vq", "photos", "--out", "x"], "here 'vq' 'photos': put the rest before it"),
        (["evaluate", "--metrics", "fd-world", "out"], "--metrics takes every word that follows it"),
        (["generate", "caf\udce9 au lait", "--out", "x"], "'caf\\udce9 au lait' is not text in UTF-8"),
        (["reconstruct", "caf\udce9.png", "--out", "x"], "is not text in UTF-8"),
        (["generate", PROMPT, "--decoder", "--out", "x"], "--decoder is followed by no value"),
        (["generate", PROMPT, "--decode-batch", "0", "--out", "x"], "--decode-batch Input should be"),
        (["calibrate", "--world", "2", "--epsilons", "--out", "x.json"], "--epsilons is followed by no value"),
        (["calibrate", "--world", "2", "--epsilons", "2", "--out", "x.json"], "--epsilons Input should be less than 1"),
        (["calibrate", "--world", "2", "--kappa-range", "60", "10", "--out", "x.json"], "the smaller one first"),
        (
            ["calibrate", "--world", "2", "--kappa-range", "10", "nan", "--out", "x.json"],
            "--kappa-range Input should be",
        ),
        (["evaluate", "out", "--world", "2", "--metrics"], "--metrics is followed by no value"),
        (["train", "dcdd.mini", "--net.axes", "--out", "x"], "--net.axes"),
        (["train", "nowhere.YAML", "--out", "x"], "there is no config file at nowhere.YAML"),
        (["generate", PROMPT, "--vlm", "llamagen-xl@nope", "--out", "x"], "there is no folder 'nope'"),
        (["generate", PROMPT, "--split", "validation", "--out", "x"], "--world N"),
        (["generate", "?!", "--out", "x"], "has no words"),
        (["generate", PROMPT, PROMPT, "--out", "x"], "--per-prompt"),
        (["generate", PROMPT, "--prompts", "nowhere.txt", "--out", "x"], "nowhere.txt"),
        (["generate", PROMPT, "--vlm", "./nowhere", "--out", "x"], "nowhere"),
        (["generate", PROMPT, "--decoder", "mini/dcdb", "--out", "x"], "dcdd"),
        (["generate", "a dog and a zeppelin on grass", "--out", "x"], "zeppelin"),
        (["reconstruct", "nowhere.png", "--out", "x"], "nowhere.png"),
        (["reconstruct", "--out", "x"], "--world"),
        (["train", "mini.vml", "--out", "x"], "mini.vlm"),
        (["train", "mini.vlm", "--train.ls", "1", "--out", "x"], "--train.lr"),
        (["train", "mini.vlm", "--train.lr", "fast", "--out", "x"], "fast"),
        (["train", "nowhere.yaml", "--out", "x"], "nowhere.yaml"),
        (["recipes", "mini.vml"], "mini.vlm"),
        (["calibrate", "--world", "2", "--out", "x.txt"], ".json"),
        (["evaluate", "nowhere", "--world", "2"], "nowhere"),
        (["info", "nowhere"], "mini/dcdd"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_a_command_that_cannot_be_done_says_why_in_one_line(refusal, monkeypatch, tmp_path, arguments, clue):
    monkeypatch.chdir(tmp_path)
    assert clue in refusal(*arguments)


def test_a_stdout_without_frames_changes_no_message(tmp_path):
    command = [sys.executable, "-m", "detokenizers", "generate", PROMPT, "--seed", "-1", "--out", "x"]
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False, env=env)
    assert done.stderr.startswith("detok: --seed Input should be greater than or equal to 0, got -1 (see detok gen")


def test_an_id_longer_than_a_file_name_is_refused_before_anything_is_drawn(refusal, tmp_path):
    (tmp_path / "p.jsonl").write_text(f'{{"prompt": "{PROMPT}", "id": "{"x" * 244}"}}\n')
    assert "244 bytes" in refusal("generate", "--prompts", tmp_path / "p.jsonl", "--out", tmp_path / "out")


def test_a_prompt_that_cannot_be_read_is_named_before_the_first_is_drawn(refusal, tmp_path):
    for bad, clue in (
        ("word " * 200, "does not know 'word'"),
        ("dog " * 200, "takes 202 positions"),
        ("?!", "has no words"),
    ):
        (tmp_path / "p.txt").write_text(f"{PROMPT}\n{bad}\n")
        ask = ("--prompts", tmp_path / "p.txt", "--batch", "1", "--out", tmp_path / "out")
        assert clue in refusal("generate", *ask)


def test_a_manifest_of_someone_else_s_is_named(refusal, tmp_path):
    for text in ("", "[]\n", '{"id": 3, "decoders": []}\n', '{"id": "a", "decoders": {"vq": 1}}\n'):
        (tmp_path / "manifest.jsonl").write_text(text)
        assert "manifest.jsonl is not one of our manifests" in refusal("evaluate", tmp_path, "--world", "2")
    (tmp_path / "manifest.jsonl").write_text('{"id": "a", "decoders": ["vq"]}\n{"id"')
    assert "manifest.jsonl:2: this is not JSON" in refusal("evaluate", tmp_path, "--world", "2")


def test_a_truncated_picture_is_refused(refusal, tmp_path):
    picture = tmp_path / "photo.png"
    Image.new("RGB", (64, 64), "red").save(picture)
    picture.write_bytes(picture.read_bytes()[:90])
    assert "photo.png" in refusal("reconstruct", picture, "--out", tmp_path / "out")


def test_small_pictures_are_refused_where_that_is_asked_for(refusal, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "dot.png")
    clue = "dot.png is 8x8 px, but its shorter side must have 16 px"
    assert clue in refusal("reconstruct", tmp_path / "dot.png", "--smallest", 16, "--out", tmp_path / "out")
    ask = ["--num-prompts", 1, "--smallest", 16, "--out", tmp_path / "found.json"]
    assert clue in refusal("calibrate", "--images", tmp_path / "dot.png", *ask)


def test_a_file_in_the_place_of_the_output_folder_is_refused(refusal, tmp_path):
    (tmp_path / "out").write_text("mine")
    assert "is a file" in refusal("generate", PROMPT, "--out", tmp_path / "out")
    assert "is a file" in refusal("train", "mini.world_net", "--out", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_misspelt_key_in_a_run_yaml_is_refused(refusal, tmp_path):
    (tmp_path / "run.yaml").write_text("recipe: mini.world_net\ntrain:\n  learning_rate: 0.1\n")
    line = refusal("train", tmp_path / "run.yaml", "--out", tmp_path / "out")
    assert "train.learning_rate" in line
    assert "run.yaml" in line


def test_yaml_that_is_no_run_is_refused(refusal, tmp_path):
    (tmp_path / "run.yaml").write_text("recipe: [")
    assert "not valid YAML" in refusal("train", tmp_path / "run.yaml", "--out", tmp_path / "out")
    (tmp_path / "run.yaml").write_text("- 1\n")
    assert "names no recipe" in refusal("train", tmp_path / "run.yaml", "--out", tmp_path / "out")


def test_a_folder_of_another_run_is_refused(refusal, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "holiday.txt").write_text("mine")
    assert "not empty" in refusal("train", "mini.world_net", "--out", folder)
    (folder / "run.yaml").write_text("recipe: mini.vlm\n")
    (folder / "model.safetensors").write_text("trained")
    assert "mini.vlm" in refusal("train", "mini.world_net", "--out", folder)
    assert (folder / "run.yaml").read_text() == "recipe: mini.vlm\n"


def test_a_run_is_not_continued_with_settings_that_make_other_weights(refusal, tmp_path, capsys):
    main(["recipes", "mini.world_net"])
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "run.yaml").write_text(capsys.readouterr().out.split("\n\n", 1)[1])
    (folder / "world_net.safetensors").write_text("trained")
    assert "train.lr" in refusal("train", "mini.world_net", "--train.lr", "0.5", "--out", folder)


def test_a_codebook_that_does_not_fit_the_vlm_is_refused(refusal, tmp_path, embedded):
    mini = embedded / "mini"
    other = torch.nn.functional.normalize(torch.randn(64, 8), dim=-1)
    stack.build_dcdd(tmp_path / "same-size", mini / "vae", other)
    stack.build_dcdd(tmp_path / "larger", mini / "vae", torch.cat([other, other]))
    ask = ("generate", PROMPT, "--out", tmp_path / "out", "--decoder")
    assert "another codebook" in refusal(*ask, tmp_path / "same-size")
    line = refusal(*ask, tmp_path / "larger")
    assert "128 codes" in line
    assert "64" in line


def test_tokens_on_a_wrong_grid_are_refused(embedded):
    from detokenizers.pretrained.vlm.loading import load_vlm

    tokens = VisualTokens(torch.zeros(1, 9, dtype=torch.long), Grid(3, 3))
    with pytest.raises(ValueError, match="draws 4x4 tokens, these are 3x3"):
        CodeDecoder(load_vlm("mini").tokenizer)(tokens)
    with pytest.raises(ValueError, match="do not fill"):
        VisualTokens(torch.zeros(1, 9, dtype=torch.long), Grid(4, 4))


def test_a_decoder_with_nan_weights_is_refused(refusal, tmp_path, embedded):
    folder = tmp_path / "damaged"
    shutil.copytree(embedded / "mini" / "dcdd", folder)
    tensors = load_tensors(folder / "decoder.safetensors")
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_tensors(folder / "decoder.safetensors", tensors)
    ask = ("generate", PROMPT, "--decoder", folder, "--out", tmp_path / "out")
    assert "NaN" in refusal(*ask)
    assert "NaN" in refusal("info", folder)
    (folder / "decoder.safetensors").write_bytes(b"not weights")
    assert "cut off" in refusal(*ask)
    (folder / "decoder.yaml").unlink()
    assert "decoder.yaml" in refusal(*ask)


def test_a_vlm_with_nan_weights_is_refused(refusal, tmp_path, embedded):
    folder = tmp_path / "damaged"
    shutil.copytree(embedded / "mini" / "vlm", folder)
    tensors = load_tensors(folder / "model.safetensors")
    for name, tensor in tensors.items():
        if "generation_head" in name:
            tensor.fill_(float("nan"))
    save_tensors(folder / "model.safetensors", tensors)
    refusal("generate", PROMPT, "--vlm", folder, "--out", tmp_path / "out")


def test_an_unknown_hub_id_without_a_network_is_refused(refusal, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    out = tmp_path / "out"
    assert "nobody/janus" in refusal("generate", PROMPT, "--vlm", "nobody/janus", "--out", out)
    assert "nobody/dcdd" in refusal("generate", PROMPT, "--decoder", "nobody/dcdd", "--out", out)


def test_no_disk_space_leaves_nothing_half_written(refusal, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        line = refusal("reconstruct", "--world", "2", "--decoder", "vq", "--out", tmp_path / "out")
        again = refusal("generate", PROMPT, "--decoder", "vq", "--out", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot write" in line
    assert "cannot write" in again


def test_an_interrupt_ends_with_130_and_says_how_to_go_on(monkeypatch, capsys):
    def interrupted(request: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("detokenizers.cli.recipes.run", interrupted)
    assert main(["recipes"]) == 130
    assert capsys.readouterr().err == "detok: interrupted; the same command goes on where it stopped\n"


@pytest.mark.parametrize("module", ["yaml", "pydantic", "tyro", "torch", "transformers"])
def test_an_interrupt_while_the_libraries_load_is_one_line_too(module):
    script = f"""
import sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
from detokenizers.cli import main
sys.exit(main(["reconstruct", "--world", "1", "--out", "x"]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == "detok: interrupted; the same command goes on where it stopped\n"
    assert done.returncode == 130


def test_a_stdout_that_cannot_write_an_arrow_gets_the_table_all_the_same(tmp_path, embedded):
    done = subprocess.run(
        [sys.executable, "-c", ARROWS, str(embedded), str(tmp_path / "out")],
        capture_output=True, check=False, env=os.environ | {"PYTHONIOENCODING": "cp1252"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"| decoder | PSNR (dB) ? | SSIM-uniform7 ? |" in done.stdout


ARROWS = """
import sys
from pathlib import Path
from detokenizers import checkpoint
from detokenizers.cli import main
checkpoint.EMBEDDED = Path(sys.argv[1])
sys.exit(main(["reconstruct", "--world", "1", "--decoder", "vq", "--out", sys.argv[2]]))
"""


def test_the_version_is_said(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"detokenizers {detokenizers.__version__}\n"


def test_control_characters_of_a_message_are_escaped_and_stay_on_its_line():
    assert one_line(ValueError("a\x1b[31mb\u2028c\x85d\udce9")) == "a\\x1b[31mb c d\\udce9"
    assert one_line(OSError(2, "no such\nthing", "a\nb")) == "no such thing: a b"


def test_a_bug_of_ours_and_debug_both_keep_their_traceback(monkeypatch):
    with pytest.raises(ValueError, match=r"mini\.vml"):
        main(["recipes", "mini.vml", "--debug"])

    def broken(request: object) -> None:
        raise KeyError("ours")

    monkeypatch.setattr("detokenizers.cli.recipes.run", broken)
    with pytest.raises(KeyError):
        main(["recipes"])


def test_the_installed_command_says_one_line_and_exits_with_2(tmp_path: Path):
    command = [sys.executable, "-m", "detokenizers", "generate", PROMPT, "--ou", "x"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("detok: Unrecognized options: --ou")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
