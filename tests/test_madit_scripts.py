"""MaDiT's scripts run to their end tiny: the embedded stack from nothing to shipped weights, and all tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from detokenizers import checkpoint
from detokenizers.data.world.world import World
from detokenizers.madit.model import MaDiT
from detokenizers.madit.vocabulary import Vocabulary

from . import script_server, stack
from .test_runs import RUNS, metrics_in

N = 6


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which every part has been trained for two steps, and a way to make a table there."""
    place = tmp_path_factory.mktemp("madit")
    stack.build(place / "stack/mini")
    words = World().vocabulary
    rows = torch.randn(len(words), 8, generator=torch.Generator().manual_seed(0))
    Vocabulary(words, rows).save(place / "stack/mini/words")
    (place / "scripts").symlink_to(RUNS.parent / "scripts")
    settings = {
        "STACK": str(place / "stack"), "EMBEDDED": "out/shipped", "N": str(N), "SEEDS": "0 1",
        "TRAIN": f"--images.world.resolution {stack.PIXELS} --images.count 16 --train.steps 2 --train.batch-size 4",
        "DECODER": f"--model.codes.image-size {stack.PIXELS} --model.codes.codes 32 --model.trunk.width 16 "
        "--model.trunk.heads 2 --model.trunk.encoder 1 --model.trunk.decoder 1 --model.head.width 16 --model.head.blocks 1",
        "WRITER": "--model.hidden 32 --model.layers 1 --model.heads 2 --model.intermediate 32",
    }  # fmt: skip
    with script_server.running(place, **settings) as run:
        run("madit_mini.sh")
        run("madit_mini.sh", "ship")

        def table(name: str) -> Path:
            run("madit_tables.sh", name)
            return place / "out/madit_tables"

        table.place = place
        yield table


def test_what_is_shipped_draws(place, monkeypatch):
    shipped = place.place / "out/shipped"
    assert sorted(path.name for path in shipped.iterdir()) == ["madit", "madit-janus", "madit-llm"]
    assert not list(shipped.rglob("state*")) + list(shipped.rglob("*.png"))
    monkeypatch.setattr(checkpoint, "EMBEDDED", place.place / "stack")
    assert MaDiT.load(shipped / "madit").config.codes.image_size == stack.PIXELS


def test_table_1_has_all_decoders_on_the_same_images(place):
    table = place("table1") / "table1"
    for seed in ("0", "1"):
        found = metrics_in(table / seed / "evaluated")
        assert list(found) == ["vq", "dcdd", "vae", "mini_flow"]
        assert found["mini_flow"]["psnr"] != metrics_in(table / seed / "codewords")["vq"]["psnr"]


def test_table_2a_varies_the_sampling_alone_in_both_regimes(place):
    table = place("table2a") / "table2a"
    for name in ("mini_flow", "mini_sixteen_both_flow"):
        found = metrics_in(table / name / "0" / "evaluated")
        assert list(found)[:5] == ["regression", "regression-cfg", "flow", "cfg", "kl"]
        assert len(found) == 9
        assert len({round(row["psnr"], 6) for row in found.values()}) >= 5
        again = metrics_in(table / name / "1" / "evaluated")
        assert again["flow"]["psnr"] != found["flow"]["psnr"]


def test_table_2b_has_a_training_a_row(place):
    found = metrics_in(place("table2b") / "table2b/0/evaluated")
    assert list(found) == ["mini_sixteen_flow", "mini_sixteen_encoder_flow", "mini_sixteen_both_flow"]
    assert len({row["psnr"] for row in found.values()}) == 3


def test_table_3_draws_from_prompts_beside_the_mini_vlm(place):
    table = place("table3") / "table3/0"
    assert list(metrics_in(table / "evaluated")) == ["vq", "dcdd", "mini_flow"]
    assert 0 < metrics_in(table / "usage")["mini_flow"]["codebook_usage"] <= 1


def test_sweeps_have_a_row_a_setting(place):
    found = metrics_in(place("sweeps") / "sweeps/mini_flow/0/evaluated")
    assert [name.split("-")[0] for name in found] == ["rounds"] * 5 + ["flow"] * 3 + ["guidance"] * 3


def test_speed_is_measured_at_equal_outputs(place):
    lines = (place("speed") / "speed.json").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row.get("rounds") for row in rows] == [1, 4, 8, 16, None]
    assert max(row["largest_difference"] for row in rows[:4]) < 1e-3
    assert rows[-1]["tokens_equal"]


def test_codewords_are_counted_and_orders_compared(place):
    rows = [json.loads(line) for line in (place("codewords") / "codewords.json").read_text().splitlines()]
    assert [(row["tokens"], row["codes"]) for row in rows] == [(N * 16, 32), (N * 4, 32)]
    assert rows[0]["bits_an_image"] == 80
    for row in rows:
        assert 0 < row["usage"] <= 1
        assert -1 <= row["codeword_variance ~ gradient_energy"] <= 1


def test_noise_compares_arms_share_by_share(place):
    tables = place("noise")
    rows = [line.split(" | ") for line in (tables / "noise.md").read_text().splitlines() if line.startswith("| 0")]
    assert [row[1] for row in rows[:6]] == ["hard", "both", "permuted", "other", "decided", "oracle"]
    assert rows[1][2:4] == rows[4][2:4], "where no token is sampled, `both` reads decided tokens"
    assert rows[0][2] == rows[5][2]
    assert list(metrics_in(tables / "noise/0/evaluated")) == ["mini_more", "mini_distributions"]


def test_a_strip_shows_the_rounds(place):
    from subprocess import run

    strip = place.place / "strip.png"
    path = f"{place.place / 'bin'}:/usr/bin:/bin"
    command = [
        "python",
        "scripts/draw_rounds.py",
        "out/madit/mini_flow",
        "--world",
        "2",
        "--rounds",
        "3",
        "--out",
        str(strip),
    ]
    run(command, check=True, cwd=place.place, env={"PATH": path, "STACK": str(place.place / "stack")})
    assert Image.open(strip).width > 4 * 192
