"""Every recipe trains: shrunk to a tiny stack it takes two steps, exports what users load, and goes on from there; and
every row of the paper's tables has its recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from detokenizers.checkpoint import load_tensors, resolve
from detokenizers.cli import main
from detokenizers.data.sources import WorldImages
from detokenizers.dcdd.calibrate import CalibrationReport
from detokenizers.dcdd.calibration import Calibration
from detokenizers.dcdd.condition import CondConfig
from detokenizers.dcdd.lcdm import Expectation, HardCodes
from detokenizers.dcdd.model import DCDDConfig
from detokenizers.dcdd.recipes import RECIPES as DCDD_RECIPES
from detokenizers.flow import LogitNormal, One
from detokenizers.mini.recipes import RECIPES as MINI_RECIPES
from detokenizers.papers import RECIPES
from detokenizers.pretrained.flux.scope import Attention
from detokenizers.pretrained.spaces import PretrainedVAE, VAEConfig
from detokenizers.training.loop import LOG
from detokenizers.training.schedules import Constant
from detokenizers.training.state import STATE, whole_state

from . import stack

HERE = {**MINI_RECIPES, **DCDD_RECIPES}
"""Recipes that fit this tiny stack; those of the other papers take their two steps in tests/vugen and tests/madit."""

ROWS = {
    "the embedded stack": ["mini.world_net", "mini.tokenizer", "mini.autoencoder", "mini.vlm", "dcdd.mini"],
    "Tables 2 and 3": ["dcdd.janus_pro_7b"],
    "Tables 7 and 8": ["dcdd.llamagen_xl"],
    "Table 4": ["dcdd.janus_pro_7b_hard", "dcdd.janus_pro_7b_lcdm", "dcdd.janus_pro_7b_lc"],
    "Table 4, embedded": ["dcdd.mini_hard", "dcdd.mini_lcdm", "dcdd.mini_lc"],
    "beyond the paper": [
        "dcdd.mini_paper",
        "dcdd.mini_teacher_forced",
        "dcdd.mini_committed",
        "dcdd.mini_both",
    ],
}


def tiny(run: Any, cache: Path) -> Any:
    """The same recipe over the tiny stack; what a run does not have is left out."""
    small: dict[str, Any] = {
        "train.steps": 2,
        "train.batch_size": 2,
        "train.log_every": 1,
        "world": stack.WORLD.config,
        "widths": (8, 16),
        "size": stack.JANUS,
        "vae": VAEConfig(channels=4, block_channels=(32, 32)),
        "scenes": 16,
        "vlm": "mini",
        "images": WorldImages(world=stack.WORLD.config, count=16),
        "cache": str(cache),
        "decoder.net": stack.FLUX,
        "decoder.space": PretrainedVAE(name="mini/vae"),
        "decoder.condition": CondConfig(width=8, groups=4),
        "decoder.token_stride": stack.PIXELS // 4,
        "calibration": None,  # the reports that recipes name are for other codebooks
    }
    return run.vary({key: value for key, value in small.items() if hasattr(run, key.split(".")[0])})


@pytest.mark.parametrize("name", HERE)
def test_a_recipe_takes_two_steps_exports_and_goes_on(name, tmp_path, embedded):
    run, folder = tiny(RECIPES[name](), tmp_path / "cache"), tmp_path / "run"
    (tmp_path / "two.yaml").write_text(run.to_yaml())
    (tmp_path / "three.yaml").write_text(run.vary({"train.steps": 3}).to_yaml())

    assert main(["train", str(tmp_path / "two.yaml"), "--out", str(folder)]) == 0
    assert int(whole_state(folder)["step"]) == 2
    exported = [path for path in folder.rglob("*.safetensors") if STATE not in path.parts]
    assert exported
    before = whole_state(folder)

    assert main(["train", str(tmp_path / "three.yaml"), "--out", str(folder)]) == 0
    rows = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2]
    after = whole_state(folder)
    moved = [key for key in before if key.startswith("trained/") and not torch.equal(before[key], after[key])]
    assert moved


def test_the_vlm_s_record_names_the_tokenizer_whose_tokens_it_learns(tmp_path, embedded):
    assert set(tiny(RECIPES["mini.vlm"](), tmp_path).job().inputs) == {"images", "tokenizer"}


@pytest.mark.parametrize("table", ROWS)
def test_every_row_of_a_table_has_its_recipe(table):
    for name in ROWS[table]:
        run: Any = RECIPES[name]()
        assert run.recipe == name
        assert type(run).model_validate(run.model_dump(mode="json")) == run


@pytest.mark.parametrize(("name", "size", "token_stride"), [("janus_pro_7b", 384, 16), ("llamagen_xl", 256, 16)])
def test_a_full_size_recipe_trains_and_draws_with_the_paper_s_numbers(name, size, token_stride):
    """Those that docs/dcdd.md gives as the paper's or infers, section by section."""
    run: Any = RECIPES[f"dcdd.{name}"]()
    train, decoder = run.train, run.decoder
    assert (train.steps, train.batch_size, train.precision, train.checkpointing) == (50_000, 32, "bf16", True)
    assert (train.lr, run.new_lr_scale) == (1e-5, 10), "1e-5 for attention, 1e-4 for new layers"
    assert (train.betas, train.weight_decay, train.clip) == ((0.9, 0.999), 0.01, 1.0)
    assert (train.warmup, train.schedule) == (500, Constant()), "constant after warm-up"
    assert train.ema_decay == 0
    assert (run.images.size, decoder.token_stride) == (size, token_stride)
    assert decoder.steps == 30
    assert (decoder.net.text.num_tokens, decoder.net.guidance) == (512, 30)
    assert isinstance(decoder.scope, Attention)
    assert isinstance(run.time_law, LogitNormal)
    assert isinstance(run.weight, One)


@pytest.mark.parametrize("row", ["hard", "lcdm", "lc"])
def test_the_paper_s_table_4_takes_ten_thousand_steps_a_row(row):
    run: Any = RECIPES[f"dcdd.janus_pro_7b_{row}"]()
    assert run.train == RECIPES["dcdd.janus_pro_7b"]().train.vary(steps=10_000)


@pytest.mark.parametrize("start", ["janus_pro_7b", "llamagen_xl", "mini"])
def test_the_rows_of_table_4_differ_in_what_the_decoder_reads_and_nothing_else(start):
    hard, lcdm = (RECIPES[f"dcdd.{start}_{row}"]() for row in ("hard", "lcdm"))
    lc: Any = (RECIPES.get(f"dcdd.{start}_lc") or RECIPES[f"dcdd.{start}"])()
    assert isinstance(hard.decoder.lcdm, HardCodes)
    assert isinstance(lcdm.decoder.lcdm, Expectation)
    assert isinstance(lc.decoder.lcdm, Expectation)
    assert {row.decoder.calibration for row in (hard, lcdm, lc)} == {Calibration()}
    assert hard.calibration is None, "the likeliest code is the same at any sharpness"
    assert lcdm.calibration is None, "the raw proxy"
    assert lc.calibration, "a report of this VLM's codebook"
    alike = {"recipe": "", "decoder.lcdm": Expectation(), "calibration": None, "train.steps": 1}
    assert hard.vary(alike) == lcdm.vary(alike) == lc.vary(alike)


def test_no_recipe_has_a_kappa_that_is_not_its_vlm_s():
    for name in (name for names in ROWS.values() for name in names if name.startswith("dcdd.")):
        run: Any = RECIPES[name]()
        assert run.decoder.calibration == Calibration(vlm_side=run.decoder.calibration.vlm_side), name
    assert RECIPES["dcdd.janus_pro_7b"]().calibration != RECIPES["dcdd.llamagen_xl"]().calibration


def test_the_embedded_decoder_is_calibrated_as_its_recipe_is():
    folder = resolve("mini/dcdd")
    recipe: Any = RECIPES["dcdd.mini"]()
    ours, found = DCDDConfig.from_yaml(folder / "decoder.yaml"), CalibrationReport.load(folder / "calibration.json")
    assert recipe.calibration == "mini/dcdd/calibration.json"
    assert ours.steps == recipe.decoder.steps
    codebook = load_tensors(folder / "codebook.safetensors")["codebook"]
    assert found.require(codebook).vary(vlm_side=ours.calibration.vlm_side) == ours.calibration
    assert RECIPES["dcdd.mini_lc"]().calibrated(codebook).calibration == found.calibration


def test_every_recipe_says_what_it_is_and_belongs_to_a_row():
    listed = {name for names in ROWS.values() for name in names}
    for name, recipe in RECIPES.items():
        assert recipe.__doc__, name
        assert name not in HERE or name in listed or name.rsplit("_", 1)[0] in listed, f"{name} is in no table"


def test_a_run_folder_can_be_loaded_by_its_path(tmp_path, embedded):
    import detokenizers as dt

    run = tiny(RECIPES["dcdd.mini"](), tmp_path / "cache")
    (tmp_path / "run.yaml").write_text(run.to_yaml())
    main(["train", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "run")])
    out = ["--steps", "1", "--out", str(tmp_path / "out")]
    assert main(["generate", "a dog on grass", "--decoder", str(tmp_path / "run"), "mini/dcdd", *out]) == 0
    assert (tmp_path / "out" / "run" / "a-dog-on-grass.png").exists()
    assert dt.load(tmp_path / "run").lcdm == run.decoder.lcdm
