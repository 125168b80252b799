"""`detok distill`: whatever paper a run is of, its decoder learns to draw in one step; what cannot be distilled says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from detokenizers import checkpoint, papers
from detokenizers.checkpoint import load_tensors, save_tensors
from detokenizers.cli import main
from detokenizers.training.run_folder import train_into
from tests.dcdd.test_pixel_model import pixels
from tests.vugen.test_runs import stage_a

SHORT = ("--train.steps", "2", "--train.batch-size", "4", "--train.log-every", "1", "--kept", "6")


@pytest.fixture(scope="module")
def teachers(tiny_stack: Path, tmp_path_factory: pytest.TempPathFactory):
    """The folder of a finished run of each paper."""
    place = tmp_path_factory.mktemp("teachers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "EMBEDDED", tiny_stack)
        for name, run in (("dcdd", pixels(place)), ("vugen", stage_a())):
            train_into(run, place / name)
    return place


@pytest.mark.parametrize(("paper", "recipe"), [("dcdd", "dcdd.one_step"), ("vugen", "vugen.mini_distil")])
def test_a_decoder_of_one_step_learns_as_its_teacher_did(embedded, teachers, tmp_path, capsys, paper, recipe):
    teacher, out = teachers / paper, tmp_path / "one step"
    ask = ["distill", str(teacher), *SHORT, "--cache", str(tmp_path / "cache"), "--out", str(out)]
    assert main(ask) == 0
    assert f"{recipe}, 2 steps, loss" in capsys.readouterr().out
    many, one = papers.load(teacher), papers.load(out)
    assert (many.steps, one.steps) == (PIXEL_STEPS[paper], 1)
    before, after = (yaml.safe_load((folder / "run.yaml").read_text()) for folder in (teacher, out))
    assert all(after[name] == before[name] for name in ("images", "perceptual", "alignment"))
    assert after["folder"] == str(teacher)
    old, new = (load_tensors(folder / "decoder.safetensors") for folder in (teacher, out))
    assert any(not old[name].equal(new[name]) for name in old)
    (drawn,) = (tmp_path / "cache").glob("drawn-*/*.safetensors")
    assert len(load_tensors(drawn)["drawn"]) == 6
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["held_out"] > 0
    assert main(ask) == 0  # done: nothing is trained, and nothing is drawn again
    assert [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()] == [0, 1]


PIXEL_STEPS = {"dcdd": 8, "vugen": 2}


def test_a_run_that_was_cut_off_goes_on_with_the_teacher_that_it_began_with(embedded, teachers, tmp_path, capsys):
    ask = [
        "distill",
        str(teachers / "vugen"),
        *SHORT,
        "--cache",
        str(tmp_path / "cache"),
        "--train.schedule.decay",
        "1",
    ]
    assert main([*ask, "--out", str(tmp_path / "whole")]) == 0
    constant = [*ask, "--train.warmup", "9"]  # in the warm-up a step does not depend on how many follow
    assert main([*constant, "--out", str(tmp_path / "at once")]) == 0
    for steps in ("1", "2"):
        assert main([*constant, "--train.steps", steps, "--out", str(tmp_path / "twice")]) == 0
    found = [load_tensors(tmp_path / name / "decoder.safetensors") for name in ("at once", "twice", "whole")]
    assert all(found[0][name].equal(found[1][name]) for name in found[0])
    assert any(not found[0][name].equal(found[2][name]) for name in found[0])
    weights = load_tensors(teachers / "vugen" / "decoder.safetensors")
    save_tensors(teachers / "vugen" / "decoder.safetensors", {name: x * 1.5 for name, x in weights.items()})
    capsys.readouterr()
    try:
        assert main([*ask, "--out", str(tmp_path / "whole")]) == 2
    finally:
        save_tensors(teachers / "vugen" / "decoder.safetensors", weights)
    assert "the teacher that" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "clue"),
    [
        ("nowhere", "nowhere"),
        ("mini/vae", "run.yaml"),
        ("mini/world_net", "a run of mini.world_net, which cannot be distilled; can be: dcdd.janus_pixel_m"),
    ],
)
def test_what_cannot_be_distilled_is_one_line(embedded, tmp_path, capsys, name, clue):
    assert main(["distill", name, "--out", str(tmp_path / "x")]) == 2
    error = capsys.readouterr().err
    assert clue in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "x").exists()


def test_a_teacher_without_weights_and_a_misspelt_setting_are_one_line(embedded, teachers, tmp_path, capsys):
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / "run.yaml").write_text((teachers / "vugen" / "run.yaml").read_text())
    for ask in ([str(torn)], [str(teachers / "vugen"), "--teacher-stops", "3"], []):
        assert main(["distill", *ask, "--out", str(tmp_path / "x")]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list((tmp_path / "x").glob("*.safetensors"))
