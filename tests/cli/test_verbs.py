"""The verbs on a tiny random stack: what they write and print."""

from __future__ import annotations

import json

import pytest

import detokenizers as dt
from detokenizers.cli import main
from detokenizers.cli.calibrate import Calibrate
from detokenizers.data.world.scenes import caption
from detokenizers.data.world.world import World, WorldConfig
from detokenizers.papers import RECIPES
from tests.drawing.folders import PROMPTS


@pytest.mark.usefixtures("embedded")
def test_evaluate_pairs_reconstructions_with_their_originals(tmp_path, capsys):
    main(["reconstruct", "--world", "4", "--steps", "1", "--out", str(tmp_path)])
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path), "--world", "4", "--out", str(tmp_path / "scores")]) == 0
    out = capsys.readouterr().out
    assert "PSNR" in out
    assert "FD-world" in out
    result = json.loads((tmp_path / "scores" / "results.json").read_text())
    assert set(result["decoders"]) == {"vq", "dcdd"}
    own = json.loads((tmp_path / "results.json").read_text())["decoders"]["vq"]["metrics"]["psnr"]["value"]
    assert result["decoders"]["vq"]["metrics"]["psnr"]["value"] == pytest.approx(own, abs=1e-9)


@pytest.mark.usefixtures("embedded")
def test_evaluate_compares_sets_of_unpaired_pictures(tmp_path, capsys):
    main(["generate", *PROMPTS, "--per-prompt", "3", "--compare", "--steps", "1", "--out", str(tmp_path)])
    assert main(["evaluate", str(tmp_path), "--world", "12"]) == 0
    assert json.loads((tmp_path / "results.json").read_text())["n_reference"] == 12


@pytest.mark.usefixtures("embedded")
def test_captions_of_a_split_are_measured_against_its_scenes(tmp_path):
    main(["generate", "--world", "3", "--split", "validation", "--steps", "1", "--out", str(tmp_path)])
    manifest = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    world = World(WorldConfig())
    assert [row["prompt"] for row in manifest] == [caption(world.truth(seed, "validation")) for seed in range(3)]
    ask = ["--world", "3", "--split", "validation", "--metrics", "fd-world"]
    assert main(["evaluate", str(tmp_path), *ask]) == 0
    result = json.loads((tmp_path / "results.json").read_text())
    assert "fd_world" in result["decoders"]["dcdd"]["metrics"]
    assert "psnr" not in result["decoders"]["dcdd"]["metrics"]  # other pictures of the same captions


@pytest.mark.usefixtures("embedded")
def test_calibrate_writes_report_plot_and_table(tmp_path, capsys):
    out = tmp_path / "calibration.json"
    main(["generate", PROMPTS[0], "--out", str(tmp_path / "warm"), "--steps", "1"])
    capsys.readouterr()
    code = main(["calibrate", "--world", "4", "--num-prompts", "4", "--out", str(out)])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert json.loads(out.read_text())["beta_effect"] == "none (softmax-invariant)"
    assert out.with_suffix(".png").exists()
    assert "| normalized entropy |" in printed.out
    assert "| cosine to sampled |" in printed.out

    assert main(["calibrate", "--world", "4", "--num-prompts", "4", "--epsilons", "0.02", "--out", str(out)]) == 0
    assert json.loads(out.read_text())["calibration"]["epsilon"] == 0.02


def test_the_example_of_calibrate_s_help_does_what_it_says(tmp_path, monkeypatch):
    """With the embedded weights, whose codes lie closer together than the paper's range of kappa is made for."""
    monkeypatch.chdir(tmp_path)
    example = next(line for line in (Calibrate.__doc__ or "").splitlines() if line.strip().startswith("detok "))
    assert main([*example.split()[1:], "--num-prompts", "4"]) == 0
    assert json.loads((tmp_path / "out" / "calibration.json").read_text())["calibration"]["kappa"] > 60


@pytest.mark.usefixtures("embedded")
def test_info_says_what_a_folder_holds(capsys):
    assert main(["info", "mini/dcdd"]) == 0
    out = capsys.readouterr().out
    assert "decoder.safetensors" in out
    assert "sha256" in out
    assert main(["info", "mini/vlm"]) == 0
    assert "janus" in capsys.readouterr().out


def test_recipes_lists_all_and_shows_one(capsys):
    assert main(["recipes"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(RECIPES)
    assert main(["recipes", "mini.world_net"]) == 0
    assert "recipe: mini.world_net" in capsys.readouterr().out


def test_public_names_are_there():
    for name in dt.__all__:
        assert getattr(dt, name) is not None
    with pytest.raises(AttributeError, match="load_vlm"):
        dt.lode  # noqa: B018


def test_the_python_api_of_the_readme_draws(embedded):
    vlm, dcdd = dt.load_vlm("mini"), dt.load("mini/dcdd")
    tokens = vlm.generate(["a red apple on a wooden table"], seeds=[0], observe=dcdd.observers)
    assert dt.CodeDecoder(vlm.tokenizer)(tokens).shape == (1, 3, 16, 16)
    assert dcdd(tokens, steps=2).shape == (1, 3, 16, 16)


def test_a_verb_that_does_not_share_its_work_is_left_to_the_first_of_several_processes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert main(["calibrate", "--world", "4", "--out", str(tmp_path / "c.json")]) == 0
    assert capsys.readouterr().out == ""
    assert not list(tmp_path.iterdir())
