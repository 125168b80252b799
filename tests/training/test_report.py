"""What a person looks at while a run is going."""

from __future__ import annotations

import json

import numpy as np
import torch
from PIL import Image

from detokenizers.training.report import Log, draw_curve, read_log, save_preview


def rows(path, *steps):
    path.write_text(
        "".join(json.dumps({"step": step, "loss": 1.0 + step, "seconds": step * 2.0}) + "\n" for step in steps)
    )


def test_a_log_that_goes_on_drops_the_steps_that_are_taken_again(tmp_path):
    rows(tmp_path / "log.jsonl", 0, 10, 20, 30)
    log = Log(tmp_path, 20)
    log.write({"step": 20, "loss": 5.0})
    kept = read_log(tmp_path / "log.jsonl")
    assert [row["step"] for row in kept] == [0, 10, 20]
    assert kept[-1]["loss"] == 5.0


def test_the_clock_of_a_log_goes_on_where_it_stood(tmp_path):
    rows(tmp_path / "log.jsonl", 0, 10)
    Log(tmp_path, 20).write({"step": 20, "loss": 5.0})
    assert 20.0 <= read_log(tmp_path / "log.jsonl")[-1]["seconds"] < 25.0


def test_a_line_cut_off_by_a_kill_or_damaged_is_left_out(tmp_path):
    rows(tmp_path / "log.jsonl", 0, 10)
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('3\n{"loss": 1.0}\n')
    with (tmp_path / "log.jsonl").open("ab") as log:
        log.write(b'\xff\n{"step": 20, "los')
    assert [row["step"] for row in read_log(tmp_path / "log.jsonl")] == [0, 10]


def test_of_a_step_logged_twice_the_later_row_counts(tmp_path):
    rows(tmp_path / "log.jsonl", 0, 10)
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 0, "loss": 7.0}\n')
    assert [row["loss"] for row in read_log(tmp_path / "log.jsonl")] == [7.0, 11.0]


def test_a_curve_is_drawn_from_the_first_row_on(tmp_path):
    draw_curve(tmp_path / "log.jsonl", tmp_path / "loss.png")
    assert not (tmp_path / "loss.png").exists()
    rows(tmp_path / "log.jsonl", 0, 10, 20)
    draw_curve(tmp_path / "log.jsonl", tmp_path / "loss.png")
    with Image.open(tmp_path / "loss.png") as picture:
        assert np.asarray(picture.convert("RGB")).std() > 0


def test_a_curve_shows_held_out_losses_too(tmp_path):
    for name, more in (("one", ""), ("two", ', "held_out": 3.0')):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"step": 0, "loss": 1.0}}\n{{"step": 9, "loss": 2.0{more}}}\n')
        draw_curve(tmp_path / f"{name}.jsonl", tmp_path / f"{name}.png")
    assert (tmp_path / "one.png").read_bytes() != (tmp_path / "two.png").read_bytes()


def test_a_curve_of_losses_below_zero_is_drawn_too(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 0, "loss": 1.0}\n{"step": 1, "loss": -1.0}\n')
    draw_curve(tmp_path / "log.jsonl", tmp_path / "loss.png")
    assert (tmp_path / "loss.png").exists()


def test_a_preview_tiles_images_in_rows_on_white(tmp_path):
    images = torch.linspace(-1, 1, 3)[:, None, None, None].expand(3, 3, 2, 4)
    save_preview(images, tmp_path / "preview.png", columns=2, scale=3)
    with Image.open(tmp_path / "preview.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (12, 24, 3)
    assert pixels[0, 0, 0] == 0
    assert pixels[0, 12, 0] == 128
    assert pixels[6, 0, 0] == 255
    assert (pixels[6:, 12:] == 255).all()
