"""VUGEN's scripts run to their end as they are, tiny: on the embedded stack from a VLM to shipped weights and every table,
and at full size on random checkpoints under the official names, with every kind of picture that folders hold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from transformers import Dinov2Config, Dinov2Model

import detokenizers as dt
from detokenizers import checkpoint
from detokenizers.checkpoint import fingerprint
from detokenizers.pretrained.spaces import VAEConfig, build_vae, save_vae
from detokenizers.pretrained.vlm.janus_size import build_janus
from detokenizers.pretrained.vlm.loading import load_tokenizer
from detokenizers.pretrained.vlm.word_tokenizer import word_tokenizer

from . import paper_stack, script_server, stack
from .pretrained.judges import save_clip, save_detector, save_examiner
from .pretrained.vlm.tiny_vlms import perception_lm
from .test_runs import RUNS, metrics_in

SHORT = "--train.steps 2 --train.batch-size 4 --train.log-every 1 --train.warmup 1"
WORLD = f"--images.world.resolution {stack.PIXELS} --images.count 12"
REPORT = Path(checkpoint.__file__).parent / "embedded/mini/dcdd/calibration.json"
MODELS = ["decoupled", "repa", "vugen"]


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    """Runs a script of the embedded stack in a folder of its own, on a VLM whose path has a blank in it."""
    place = tmp_path_factory.mktemp("mini")
    (place / "scripts").symlink_to(RUNS.parent / "scripts")
    stack.build(place / "stack/mini")
    vlm = place / "a vlm"
    shutil.copytree(place / "stack/mini/vlm", vlm)
    report = json.loads(REPORT.read_text()) | {"codebook_sha256": fingerprint(load_tokenizer(vlm).codebook)}
    (place / "calibration.json").write_text(json.dumps(report))
    settings = {
        "STACK": str(place / "stack"), "VLM": str(vlm), "CALIBRATION": str(place / "calibration.json"), "VUGEN": "out/v u",
        "EMBEDDED": "out/shipped", "N": "8", "SEEDS": "0", "SCALES": "1 3", "RATIOS": "1 8", "ROW_STEPS": "2",
        "TOWER_STEPS": "4", "RESAMPLES": "4",
        "STAGE_A": f"{SHORT} {WORLD} --autoencoder.size {stack.PIXELS} --start-images 8 --statistics-images 8",
        "DISTIL": f"{SHORT} --kept 8", "TOWER": f"{SHORT} {WORLD} --model.steps 2",
        "BASELINE": f"--model.target.size {stack.PIXELS}", "PIXEL": f"{SHORT} {WORLD} --decoder.token-stride 4",
    }  # fmt: skip
    with script_server.running(place, **settings) as run:
        run("vugen_mini.sh")

        def table(name: str) -> Path:
            run("vugen_tables.sh", name)
            return place / "out/tables/vugen"

        table.place = place
        yield table


def test_from_a_vlm_to_weights_that_are_shipped(mini, monkeypatch):
    shipped = mini.place / "out/shipped"
    assert not [path for path in shipped.rglob("*") if path.name.startswith(("state", "log", "inputs", "preview"))]
    assert {yaml.safe_load(path.read_text())["vlm"] for path in (shipped / "vugen").rglob("decoder.yaml")} == {"mini"}
    assert yaml.safe_load((shipped / "one_step/decoder.yaml").read_text())["steps"] == 1
    monkeypatch.setattr(checkpoint, "EMBEDDED", mini.place / "stack")
    model = dt.load(shipped / "vugen")
    assert model(["a red apple"], seeds=[0]).shape == (1, 3, stack.PIXELS, stack.PIXELS)
    assert model.target.config.decoder.steps == 1


def test_what_is_there_is_not_trained_again(mini):
    before = {path: path.stat().st_mtime_ns for path in (mini.place / "out").rglob("state/*/*.safetensors")}
    assert len(before) >= 7
    mini("table1")
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_table_1_has_a_row_a_model_and_understanding_beside_it(mini):
    tables = mini("table1")
    assert list(metrics_in(tables / "table1/seed-0/evaluated")) == MODELS
    compared = json.loads((tables / "table1/seed-0/repa-vugen/results.json").read_text())
    assert "fd_world" in compared["differences"]["vugen - repa"]["metrics"]
    before, after = ((tables / "understanding" / f"{when}.jsonl").read_text() for when in ("before", "after"))
    assert before == after
    assert len(before.splitlines()) == 8
    assert "captions exactly right" in (tables / "understanding/before.md").read_text()


def test_fig_3_is_one_run_measured_four_times(mini):
    tables = mini("fig3")
    assert sorted(path.name for path in (tables / "fig3").iterdir()) == ["1", "2", "3", "4"]
    assert Image.open(tables / "fig3.png").width > 400
    log = (mini.place / "out/v u/fig3/vugen/log.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in log] == [0, 1, 2, 3]


def test_fig_6_compares_reducers_and_decoders(mini):
    found = metrics_in(mini("fig6") / "fig6/evaluated")
    assert list(found) == ["vq", "pca", "joint", "whitened", "latent", "decoder", "decoder-1"]
    assert len({metrics["psnr"] for metrics in found.values()}) == 7


def test_vugen_stands_beside_the_decoders_of_tokens(mini):
    tables = mini("generation")
    for split in ("prompts", "validation"):
        assert list(metrics_in(tables / f"generation/{split}/evaluated")) == ["vq", "dcdd", "vugen"]
    assert list(metrics_in(tables / "pixels/evaluated")) == ["pixels", "decoder", "decoder-1"]


def test_fig_7_and_fig_s3_are_curves(mini):
    tables = mini("fig7")
    assert all((tables / f"fig7-{what}.png").exists() for what in ("reconstruction", "generation"))
    assert {"1", "8"} == {path.name for path in (tables / "fig7/generation").iterdir()}
    tables = mini("figS3")
    assert Image.open(tables / "figS3.png").width > 400
    distances = [metrics_in(tables / f"figS3/{scale}/evaluated")["vugen"]["fd_world"] for scale in (1, 3)]
    assert distances[0] != distances[1]


def test_efficiency_and_the_one_step_decoder_are_timed(mini):
    tables = mini("efficiency")
    decoders = json.loads((tables / "efficiency/decoders.json").read_text())["decoders"]
    assert [row["steps"] for row in decoders.values()] == [50, 8, 1]
    assert all(row["images_per_s"] > 0 for row in decoders.values())
    tables = mini("one_step")
    assert list(metrics_in(tables / "one_step/generation/evaluated")) == ["vq", "dcdd", "pixels", "one_step"]
    lines = (tables / "one_step/latency.jsonl").read_text().splitlines()
    assert [json.loads(line)["steps"] for line in lines][1:] == [8, 1]


# --- full size, on random checkpoints ---------------------------------------------------------------------------------

PIXELS = paper_stack.PIXELS
PAPER = {
    "STAGE_A": f"{SHORT} --images.size {PIXELS} --autoencoder.size {PIXELS} --start-images 6 --statistics-images 6 "
    "--train.workers 0 --autoencoder.reducer.ratio 8 --autoencoder.decoder.net.widths 8 16 --autoencoder.decoder.steps 2 "
    "--autoencoder.decoder.net.blocks 1 --autoencoder.decoder.net.heads 2 --autoencoder.decoder.net.groups 4 "
    "--autoencoder.decoder.net.patch 4",
    "DISTIL": f"{SHORT} --train.workers 0 --teacher-steps 2",
    "TOWER": f"{SHORT} --images.size {PIXELS} --train.workers 0 --model.steps 2",
    "BASELINE": f"--model.target.size {PIXELS}",
}
WORDS = ["two", "red", "apples", "on", "a", "wooden", "table", *(ask["tag"] for ask in paper_stack.ASKS)]


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """Runs a script of the full-size tables on tiny checkpoints."""
    place = tmp_path_factory.mktemp("paper")
    torch.manual_seed(0)
    words = word_tokenizer(WORDS)
    janus = build_janus(paper_stack.JANUS.vary(vocabulary=len(words), layers=5), words)
    plm = perception_lm(vocab_size=len(words), num_hidden_layers=5, pad_token_id=words.pad_token_id, image_size=PIXELS)
    for name, model in (("deepseek-community/Janus-Pro-1B", janus), ("facebook/Perception-LM-1B", plm)):
        model.save_pretrained(place / name)
        words.save_pretrained(place / name)
    vae = VAEConfig(channels=2, block_channels=(8, 8, 8), norm_groups=4)
    save_vae(build_vae(vae), place / "stabilityai/stable-diffusion-3-medium-diffusers/vae")
    small = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    Dinov2Model(Dinov2Config(**small)).save_pretrained(place / "facebook/dinov2-base")
    save_detector(place / "facebook/mask2former-swin-small-coco-instance")
    save_clip(place / "openai/clip-vit-large-patch14")
    save_examiner(place / "Qwen/Qwen2.5-VL-7B-Instruct")
    for split in ("train", "val"):
        paper_stack.save_imagenet(place / "imagenet" / split, 6)
    paper_stack.save_imagenet(place / "captioned", 6)
    paper_stack.save_imagenet(place / "coco/images", 6)
    for number, picture in enumerate(sorted((place / "captioned").rglob("*.JPEG"))):
        picture.with_suffix(".txt").write_text("\n two red apples \n" if number % 2 else "a wooden table")
    asked = [{"id": str(number), "prompt": "two red apples on a table"} for number in range(6)]
    (place / "coco/captions.jsonl").write_text("".join(f"{json.dumps(ask)}\n\n" for ask in asked))
    paper_stack.save_asks(place / "geneval/prompts/evaluation_metadata.jsonl")
    paper_stack.save_questions(place / "dpg_bench/dpg_bench.csv")
    with script_server.running(place, **PAPER) as run:

        def table(script: str) -> Path:
            run(script)
            return place / "out/vugen"

        yield table


@pytest.mark.parametrize(
    ("script", "table", "models"),
    [
        ("vugen_plm_1b.sh", "table1", ["decoupled", "repa", "plm_1b"]),
        ("vugen_janus_1b.sh", "janus_table1", ["janus_decoupled", "janus_repa", "janus_1b"]),
    ],
)
def test_at_full_size_three_models_are_trained_and_measured(paper, script, table, models):
    out = paper(script)
    for data, metric in (("coco", "clipscore_datacomp"), ("geneval", "score"), ("dpg", "score")):
        measured = metrics_in(out / table / data / "evaluated")
        assert list(measured) == models
        assert metric in measured[models[0]], measured[models[0]]
    assert '"alignment"' in (out / models[1] / "log.jsonl").read_text()
    if table == "janus_table1":
        assert len((out / table / "before.jsonl").read_text().splitlines()) == 6
    else:
        decoders = json.loads((out / "efficiency.json").read_text())["decoders"]
        assert [row["steps"] for row in decoders.values()] == [2, 1]
