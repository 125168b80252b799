"""MaDiT's scripts run to their end tiny, in a folder with a blank in its name: the embedded stack from nothing to shipped
weights and all tables, and those of full size on random checkpoints under the official names, with every kind of picture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from detokenizers import checkpoint
from detokenizers.data.images import notes_of
from detokenizers.data.world.world import World
from detokenizers.evaluation.benchmarks.mjhq import CATEGORIES
from detokenizers.madit.loading import codes_of, load_language
from detokenizers.madit.model import MaDiT
from detokenizers.madit.vocabulary import Vocabulary

from . import paper_stack, script_server, stack
from .pretrained.judges import save_clip, save_detector, save_examiner
from .test_runs import RUNS, metrics_in

N = 6


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Runs scripts in a folder of its own, which is its `place`."""
    place = tmp_path_factory.mktemp("ma dit")
    (place / "scripts").symlink_to(RUNS.parent / "scripts")
    with script_server.running(place) as run:
        run.place = place
        yield run


@pytest.fixture(scope="module")
def place(server):
    """A folder in which every part has been trained for two steps, and a way to make a table there."""
    place = server.place
    stack.build(place / "stack/mini")
    words = World().vocabulary
    rows = torch.randn(len(words), 8, generator=torch.Generator().manual_seed(0))
    Vocabulary(words, rows).save(place / "stack/mini/words")
    settings = {
        "STACK": str(place / "stack"), "EMBEDDED": "out/shipped", "N": str(N), "REPEATS": "1", "LAYERS": "2",
        "TRAIN": f"--images.world.resolution {stack.PIXELS} --images.count 16 --train.steps 2 --train.batch-size 4",
        "DECODER": f"--model.codes.image-size {stack.PIXELS} --model.codes.codes 32 --model.trunk.width 16 "
        "--model.trunk.heads 2 --model.trunk.encoder 1 --model.trunk.decoder 1 --model.head.width 16 --model.head.blocks 1",
        "WRITER": "--model.hidden 32 --model.layers 1 --model.heads 2 --model.intermediate 32",
    }  # fmt: skip
    server("madit_mini.sh", **settings)
    server("madit_mini.sh", "ship", **settings)

    def table(name: str, **more: str) -> Path:
        server("madit_tables.sh", name, **settings, **more)
        return place / "out/tables/madit"

    table.place = place
    return table


def test_what_is_shipped_draws(place, monkeypatch):
    shipped = place.place / "out/shipped"
    assert sorted(path.name for path in shipped.iterdir()) == ["madit", "madit-janus", "madit-llm"]
    assert not list(shipped.rglob("state*")) + list(shipped.rglob("*.png"))
    monkeypatch.setattr(checkpoint, "EMBEDDED", place.place / "stack")
    assert MaDiT.load(shipped / "madit").config.codes.image_size == stack.PIXELS
    shutil.copytree(shipped / "madit", place.place / "stack/mini/madit")
    assert not (shipped / "madit-llm/tokenizer").exists(), "its codes are mini/madit's"
    assert load_language(shipped / "madit-llm").tokenizer.codebook.shape == (32, 32)
    assert codes_of(shipped / "madit-llm") == place.place / "stack/mini/madit/tokenizer"


def test_table_1_has_all_decoders_on_the_same_images(place):
    table = place("table1", SEEDS="0 1") / "table1"
    for seed in ("0", "1"):
        found = metrics_in(table / seed / "evaluated")
        assert list(found) == ["vq", "dcdd", "vae", "mini_flow"]
        assert found["mini_flow"]["psnr"] != metrics_in(table / seed / "codewords")["vq"]["psnr"]


def test_table_2a_varies_the_sampling_alone_in_both_regimes(place):
    table = place("table2a", SEEDS="0 1") / "table2a"
    for name in ("mini_flow", "mini_sixteen_both_flow"):
        found = metrics_in(table / name / "0" / "evaluated")
        assert list(found)[:5] == ["regression", "regression-cfg", "flow", "cfg", "kl"]
        assert len(found) == 9
        assert len({round(row["psnr"], 6) for row in found.values()}) >= 5
        again = metrics_in(table / name / "1" / "evaluated")
        assert again["flow"]["psnr"] != found["flow"]["psnr"]


def test_table_2b_has_a_training_a_row(place):
    found = metrics_in(place("table2b") / "table2b/0/evaluated")
    assert list(found) == [f"mini_sixteen_{name}flow" for name in ("", "encoder_", "both_", "random_", "learned_")]
    assert len({row["psnr"] for row in found.values()}) == 5
    tables = [place.place / "out/madit" / name for name in ("random_words", "mini_sixteen_random_flow/words")]
    tables.append(place.place / "out/madit/mini_sixteen_learned_flow/words")
    random, kept, learned = (Vocabulary.load(table).rows for table in tables)
    assert torch.equal(random, kept), "frozen rows stay as they were"
    assert 0 < (random - learned).abs().max() < 0.1, "learnt rows moved a little in two steps"


def test_table_3_draws_from_prompts_beside_the_mini_vlm(place):
    table = place("table3") / "table3/0"
    assert list(metrics_in(table / "evaluated")) == ["vq", "dcdd", "mini_flow"]
    assert 0 < metrics_in(table / "usage")["mini_flow"]["codebook_usage"] <= 1


def test_the_vlm_s_own_tokens_are_drawn_beside_its_decoders(place):
    table = place("janus") / "janus/0"
    for what in ("reconstruction", "generation"):
        assert list(metrics_in(table / what / "evaluated")) == ["vq", "dcdd", "mini_janus"]


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
        strip,
    ]
    run(command, check=True, cwd=place.place, env={"PATH": path, "STACK": str(place.place / "stack")})
    assert Image.open(strip).width > 4 * 192


# --- full size, on random checkpoints ---------------------------------------------------------------------------------

PIXELS = paper_stack.PIXELS
LONG = "Ein Gemälde, 図, " * 12


@pytest.fixture(scope="module")
def paper(server):
    """Runs a script of full size on tiny checkpoints and ugly folders; returns the folder with what it made."""
    place = server.place
    torch.manual_seed(0)
    paper_stack.save_flux_vae(place / "black-forest-labs/FLUX.1-schnell/vae")
    paper_stack.save_qwen(place / "Qwen/Qwen2.5-7B-Instruct")
    save_detector(place / "facebook/mask2former-swin-small-coco-instance")
    save_clip(place / "openai/clip-vit-large-patch14")
    save_examiner(place / "Qwen/Qwen2.5-VL-7B-Instruct")
    for folder in ("image net/train", "image net/val", "général/train", "in struct"):
        paper_stack.save_imagenet(place / folder, 6)
        for number, picture in enumerate(sorted((place / folder).rglob("*.JPEG"))):
            picture = picture.rename(picture.with_name(f"{picture.stem} Ä図.JPEG"))
            if "image net" not in folder:
                picture.with_suffix(".txt").write_text(LONG if number else "\n two red apples \n")
    paper_stack.save_mjhq(place / "mjhq 30k")
    meta = place / "mjhq 30k/meta_data.json"
    prompts = json.loads(meta.read_text())
    prompts["art0"]["prompt"] = LONG
    meta.write_text(json.dumps(prompts))
    paper_stack.save_asks(place / "geneval/prompts/evaluation_metadata.jsonl")
    paper_stack.save_questions(place / "dpg_bench/dpg_bench.csv")
    settings = {
        "IMAGENET": "image net", "GENERAL": "général/train", "INSTRUCT": "in struct", "MJHQ": "mjhq 30k/imgs",
        "MJHQ_META": str(meta), "TEXTS": "none encoder_decoder",
        "TRAIN": f"--images.size {PIXELS} --train.steps 2 --train.batch-size 4 --train.log-every 1 --train.warmup 1 "
        "--train.lr 1e-2 --train.ema-decay 0",
        "DECODER": f"--model.codes.image-size {PIXELS} --model.codes.codes 16 --model.codes.adapter.width 8 "
        "--model.codes.adapter.blocks 1 --model.codes.adapter.groups 4 --model.trunk.width 16 --model.trunk.heads 2 "
        "--model.trunk.encoder 1 --model.trunk.decoder 1 --model.head.width 16 --model.head.blocks 1 "
        "--model.sampling.rounds 3 --model.sampling.decoding.steps 2",
        "WRITER": "--train.accumulate 2",
    }  # fmt: skip

    def made(script: str) -> Path:
        server(script, **settings)
        return place / "out/madit"

    made.place = place
    return made


def test_a_broken_picture_ends_the_run_and_is_named_and_without_it_table_2a_has_four_rows_of_one_decoder(paper):
    broken = paper.place / "image net/train/n01440/ZZ ½.JPEG"
    broken.write_bytes((paper.place / "image net/val/n01440/ILSVRC2012_val_00000000 Ä図.JPEG").read_bytes()[:300])
    with pytest.raises(AssertionError, match=r"image net/train/n01440/ZZ ½\.JPEG cannot be read"):
        paper("madit_imagenet_512.sh")
    broken.unlink()
    made = paper("madit_imagenet_512.sh")
    found = metrics_in(made / "table2a/evaluated")
    assert list(found) == ["regression", "flow", "cfg", "kl"]
    assert {"rfid", "ssim_uniform7", "psnr", "lpips_alex", "lpips_vgg"} <= set(found["kl"])
    assert len({row["psnr"] for row in found.values()}) == 4
    assert (made / "imagenet_512/codebook.txt").exists()


def test_a_language_model_learns_the_codes_and_both_read_captions_of_any_length(paper):
    made = paper("madit_qwen_7b.sh")
    found = metrics_in(made / "table2b/evaluated")
    assert list(found) == ["general_512_none_flow", "general_512_flow"]
    assert found["general_512_none_flow"]["psnr"] != found["general_512_flow"]["psnr"]
    for row, caption in (("none/general_512_none_flow", None), ("encoder_decoder/general_512_flow", LONG.strip())):
        assert notes_of(made / "table2b" / row / "art/art0.png").get("caption") == caption
    assert set(metrics_in(made / "table3/mjhq/evaluated")["general_512_flow"]) == {"overall", *CATEGORIES}
    assert len(list((made / "table3/geneval/general_512_flow").rglob("*.png"))) == 24
    for bench in ("geneval", "dpg"):
        assert 0 <= metrics_in(made / "table3" / bench / "evaluated")["general_512_flow"]["score"] <= 1
    assert (made / "qwen_7b_instruct/visual_vocabulary.yaml").read_text() != ""
