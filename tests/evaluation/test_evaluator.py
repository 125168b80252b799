"""Evaluation end to end on a tiny stack, from Python and as `detok evaluate`: one answer however it is shared out, and
every wrong input refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detokenizers.cli import main
from detokenizers.data.images import save_png
from detokenizers.data.world.world import World, WorldConfig
from detokenizers.evaluation import evaluate, save_reference
from detokenizers.evaluation import rules as protocols
from detokenizers.evaluation.sides import SceneSide

pytestmark = pytest.mark.usefixtures("embedded")
FAST = ["--resamples", "5"]


def fill(folder: Path, n: int = 8, side: int = 16, *, noise: float = 0.0, seed: int = 0, suffix: str = "png") -> Path:
    """Pictures of noise, the same for the same seed, with some more noise on top."""
    pixels = np.random.default_rng(seed).integers(0, 256, (n, side, side, 3))
    extra = np.random.default_rng(seed + 1).normal(0, noise, pixels.shape) if noise else 0
    folder.mkdir(parents=True, exist_ok=True)
    for index, picture in enumerate((pixels + extra).round().clip(0, 255).astype(np.uint8)):
        Image.fromarray(picture).save(folder / f"{index:03d}.{suffix}")
    return folder


@pytest.fixture
def trio(tmp_path: Path) -> Path:
    """`real`, a `near` and a `far` copy of it, and `other` pictures under other names."""
    fill(tmp_path / "real", 40)
    fill(tmp_path / "near", 40, noise=10)
    fill(tmp_path / "far", 40, noise=60)
    for path in fill(tmp_path / "other", 40, seed=9).iterdir():
        path.rename(path.with_stem(f"other-{path.stem}"))
    return tmp_path


def result(out: Path) -> dict:
    return json.loads((out / "results.json").read_text())


def ask(*arguments: object) -> int:
    return main(["evaluate", *map(str, arguments), *FAST])


def test_shares_of_two_processes_make_the_same_results_to_the_byte(trio, capsys):
    how = (trio / "near", trio / "far", "--reference", trio / "real", "--shard-size", "16")
    assert ask(*how, "--out", trio / "one") == 0
    assert ask(*how, "--out", trio / "two", "--shard", "1/2") == 0
    assert "this share is done" in capsys.readouterr().out
    assert not (trio / "two" / "results.json").exists()
    assert ask(*how, "--out", trio / "two", "--shard", "2/2") == 0
    assert (trio / "two" / "results.json").read_bytes() == (trio / "one" / "results.json").read_bytes()
    assert result(trio / "one")["kind"] == "reconstruction"


def test_three_lines_of_python_give_the_numbers_of_the_command_line(trio):
    assert ask(trio / "near", trio / "far", "--reference", trio / "real", "--out", trio / "command") == 0
    report = evaluate(trio / "near", trio / "far", reference=trio / "real", resamples=5, out=trio / "python")
    assert report.save() == trio / "python" / "evaluation.png"
    for name in ("results.json", "results.md", "evaluation.png"):
        assert (trio / "python" / name).read_bytes() == (trio / "command" / name).read_bytes()
    assert report.table() == (trio / "command" / "results.md").read_text()
    assert report.decoders["near"]["psnr"]["value"] > report.decoders["far"]["psnr"]["value"]


def test_a_reference_saved_from_python_is_that_of_the_command_line(trio):
    assert ask(trio / "real", "--save-reference", trio / "command.safetensors") == 0
    assert save_reference(trio / "python.safetensors", trio / "real").startswith("40 pictures, world features")
    assert (trio / "python.safetensors").read_bytes() == (trio / "command.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("settings", "clue"),
    [
        ({"metric": ["psnr"]}, "metric: Extra inputs are not permitted"),
        ({"shard_size": 0}, "shard_size: Input should be greater than or equal to 1"),
        ({"allow": ["everything"]}, "allow.0: Input should be"),
    ],
)
def test_settings_from_python_are_checked_like_options(trio, settings, clue):
    with pytest.raises(ValueError, match=clue):
        evaluate(trio / "near", reference=trio / "real", **settings)


def test_an_evaluation_of_nothing_is_refused():
    with pytest.raises(ValueError, match="name the folders of pictures to measure"):
        evaluate(world=4)


def test_launched_processes_share_by_rank(trio, monkeypatch):
    how = (trio / "near", "--reference", trio / "other", "--shard-size", "16", "--out", trio / "out")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert ask(*how) == 0
    shards = sorted(path.name for path in (trio / "out" / "shards").iterdir())
    assert shards == ["drawn-00001.safetensors", "reference-00001.safetensors"]
    monkeypatch.setenv("RANK", "0")
    assert ask(*how) == 0
    assert result(trio / "out")["kind"] == "generation"


def test_an_interrupted_evaluation_goes_on_to_the_same_results(trio):
    how = (trio / "near", "--reference", trio / "real", "--shard-size", "16", "--out", trio / "out")
    assert ask(*how) == 0
    before = (trio / "out" / "results.json").read_bytes()
    for name in ("results.json", "results.md", "shards/drawn-00001.safetensors"):
        (trio / "out" / name).unlink()
    kept = (trio / "out/shards/drawn-00000.safetensors").stat().st_mtime_ns
    assert ask(*how) == 0
    assert (trio / "out" / "results.json").read_bytes() == before
    assert (trio / "out/shards/drawn-00000.safetensors").stat().st_mtime_ns == kept


def test_shards_of_other_pictures_are_measured_again_with_one_line(trio, capsys):
    how = (trio / "near", "--reference", trio / "real", "--out", trio / "out")
    ask(*how)
    capsys.readouterr()
    Image.new("RGB", (16, 16), "red").save(trio / "near" / "007.png")
    assert ask(*how) == 0
    error = capsys.readouterr().err
    assert "1 of 1 shards" in error
    assert "measured again" in error


def test_two_folders_are_compared_with_verdicts(trio, capsys):
    assert ask("--compare", trio / "far", trio / "near", "--reference", trio / "real", "--out", trio / "out") == 0
    out = capsys.readouterr().out
    assert "Is near better than far?" in out
    assert next(line for line in out.splitlines() if line.startswith("| PSNR")).endswith("| better |")
    found = result(trio / "out")
    assert found["differences"]["near - far"]["metrics"]["psnr"]["verdict"] == "better"
    assert found["settings"]["same tokens"] == "unknown"


def test_two_decoders_of_a_drawn_folder_are_compared_on_the_same_tokens(tmp_path, capsys):
    main(["generate", "a dog on grass", "two cats on sand", "--per-prompt", "3", "--compare", "--steps", "1",
          "--out", str(tmp_path)])  # fmt: skip
    assert ask(tmp_path, "--compare", "dcdd", "vq", "--world", "12", "--out", tmp_path / "scores") == 0
    found = result(tmp_path / "scores")
    assert list(found["decoders"]) == ["dcdd", "vq"]
    assert found["settings"]["same tokens"] == "yes"
    assert {"fd_world", "density"} <= set(found["differences"]["vq - dcdd"]["metrics"])
    assert (tmp_path / "scores" / "evaluation.png").exists()
    folders = ("--compare", tmp_path / "dcdd", tmp_path / "vq", "--world", "12", "--out", tmp_path / "again")
    assert ask(*folders) == 0
    again = result(tmp_path / "again")
    assert again["differences"] == found["differences"]
    assert again["decoders"]["vq"]["agreement"] == found["decoders"]["vq"]["agreement"] is not None


def test_codebook_usage_is_counted_on_the_tokens(tmp_path):
    main(["generate", "a dog on grass", "two cats on sand", "--decoder", "vq", "--out", str(tmp_path)])
    assert ask(tmp_path, "--world", "3", "--metrics", "codebook", "fd-world", "--out", tmp_path / "scores") == 0
    metrics = result(tmp_path / "scores")["decoders"]["vq"]["metrics"]
    assert metrics["codebook_usage"]["tokens"] == 2 * 16
    assert 1 <= metrics["codebook_perplexity"]["value"] <= 32


def test_statistics_of_a_reference_give_the_distance_of_its_pictures(trio):
    stats = trio / "stats.safetensors"
    assert ask(trio / "real", "--save-reference", stats) == 0
    assert ask(trio / "other", "--reference", stats, "--metrics", "fd-world", "--out", trio / "a") == 0
    assert ask(trio / "other", "--reference", trio / "real", "--metrics", "fd-world", "--out", trio / "b") == 0
    one, two = (result(trio / name) for name in "ab")
    assert one["decoders"] == two["decoders"]
    assert one["reference"]["hash"] == two["reference"]["hash"]
    assert one["n_reference"] == 40


def test_everything_a_number_depends_on_is_in_the_results(trio):
    assert ask(trio / "near", "--reference", trio / "real", "--out", trio / "out") == 0
    found = result(trio / "out")
    assert found["protocol"]["name"] == "world"
    assert {"load", "quantisation", "prepare", "neighbours", "ddof", "resize"} <= set(found["protocol"])
    assert found["tf32"] is False
    assert len(found["reference"]["hash"]) == 64
    assert {"torch", "pillow", "numpy"} <= set(found["versions"])


def test_a_plain_folder_is_not_littered_with_pictures(trio):
    before = sorted(path.name for path in (trio / "near").glob("*.png"))
    assert ask(trio / "near", "--reference", trio / "real") == 0
    assert sorted(path.name for path in (trio / "near").rglob("*.png")) == before
    assert ask(trio / "near", "--reference", trio / "real") == 0


def test_missing_pictures_are_listed_when_allowed(trio, capsys):
    (trio / "near" / "003.png").unlink()
    how = (trio / "near", trio / "far", "--reference", trio / "real", "--out", trio / "out")
    assert ask(*how) == 2
    assert "near lacks 1 of 40 pictures, e.g. '003'" in capsys.readouterr().err
    assert ask(*how, "--allow", "missing") == 0
    found = result(trio / "out")
    assert found["n"] == 39
    assert found["troubles"]["missing"] == {"near": {"number": 1, "first": ["003"]}}
    assert "Missing in near: 1 pictures" in (trio / "out" / "results.md").read_text()


def test_damaged_pictures_and_copies_are_listed_when_allowed(trio):
    damaged = trio / "near" / "003.png"
    damaged.write_bytes(damaged.read_bytes()[:90])
    shutil.copy(trio / "near" / "004.png", trio / "near" / "005.png")
    how = (trio / "near", "--reference", trio / "real", "--out", trio / "out")
    assert ask(*how, "--allow", "corrupt", "copies") == 0
    found = result(trio / "out")
    assert found["n"] == 39
    assert found["troubles"]["corrupt"]["number"] == 1
    assert found["troubles"]["copies"]["near"]["first"] == ["004 = 005"]


def refused(capsys, *arguments: object) -> str:
    capsys.readouterr()
    assert ask(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("detok: ")
    assert len(error.splitlines()) == 1
    return error


def test_wrong_number_of_pictures(trio, capsys):
    how = ("--reference", trio / "real", "--protocol", "dcdd-imagenet-1k", "--metrics", "psnr")
    assert "asks for 1,000 pictures, and here are 40" in refused(capsys, trio / "near", *how)


def test_fid_where_it_is_none(trio, capsys):
    line = refused(capsys, trio / "near", "--reference", trio / "real", "--metrics", "fid")
    assert "an FID by the protocol 'world'" in line


def test_wrong_size(trio, capsys):
    how = ("--reference", trio / "real", "--protocol", "adm-256", "--metrics", "psnr", "--allow", "any-n")
    assert "is 16x16 px, but this protocol resizes nothing" in refused(capsys, trio / "near", *how)


def test_jpeg_where_png_is_required(tmp_path, capsys):
    fill(tmp_path / "real", 4, 256)
    fill(tmp_path / "near", 4, 256, suffix="jpg")
    how = ("--reference", tmp_path / "real", "--protocol", "adm-256", "--metrics", "psnr", "--allow", "any-n")
    assert "is a JPEG file, and only PNG is allowed" in refused(capsys, tmp_path / "near", *how)


@pytest.mark.parametrize("odd", ["size", "format"])
def test_mixed_folders_under_a_protocol_that_does_not_resize(trio, capsys, odd):
    if odd == "size":
        Image.new("RGB", (20, 20)).save(trio / "near" / "007.png")
    else:
        (trio / "near" / "007.png").unlink()
        Image.new("RGB", (16, 16)).save(trio / "near" / "007.jpg")
    how = ("--reference", trio / "real", "--protocol", "mjhq-cleanfid", "--metrics", "psnr", "--allow", "any-n")
    line = refused(capsys, trio / "near", *how)
    assert ("007.png is 20x20 px" if odd == "size" else "007.jpg is a JPEG file") in line


def test_reference_of_another_network(trio, capsys, embedded, tmp_path):
    from detokenizers.checkpoint import load_tensors, save_tensors

    ask(trio / "real", "--save-reference", trio / "stats.safetensors")
    net = tmp_path / "net"
    shutil.copytree(embedded / "mini" / "world_net", net)
    weights = load_tensors(net / "world_net.safetensors")
    save_tensors(net / "world_net.safetensors", {name: tensor + 0.01 for name, tensor in weights.items()})
    how = ("--reference", trio / "stats.safetensors", "--metrics", "fd-world", "--net", net)
    assert "holds features of world:" in refused(capsys, trio / "other", *how)


def test_reference_of_another_protocol(trio, capsys):
    from safetensors import safe_open

    from detokenizers.evaluation.moments import Moments
    from detokenizers.evaluation.rules import world

    stats = trio / "stats.safetensors"
    ask(trio / "real", "--save-reference", stats)
    with safe_open(stats, framework="pt") as file:
        assert json.loads(file.metadata()["notes"])["protocol"]["name"] == "world"
    Moments.load(stats).save(stats, protocol=world().vary(version=0).model_dump(mode="json"), hash="0")
    line = refused(capsys, trio / "other", "--reference", stats, "--metrics", "fd-world")
    assert "made under the protocol world v0, not world v2" in line


def test_pictures_metrics_need_a_reference_of_pictures(trio, capsys):
    ask(trio / "real", "--save-reference", trio / "stats.safetensors")
    line = refused(capsys, trio / "other", "--reference", trio / "stats.safetensors", "--metrics", "fd-world", "prdc")
    assert "prdc needs the real pictures themselves" in line


def test_duplicated_ids(trio, capsys):
    Image.new("RGB", (16, 16)).save(trio / "near" / "007.jpg")
    assert "would share the id '007'" in refused(capsys, trio / "near", "--reference", trio / "real")


def test_a_picture_that_is_there_twice(trio, capsys):
    shutil.copy(trio / "near" / "004.png", trio / "near" / "005.png")
    line = refused(capsys, trio / "near", "--reference", trio / "real", "--out", trio / "out")
    assert "alike in every pixel" in line
    assert not (trio / "out" / "results.json").exists()


def test_an_empty_folder_and_no_folder(trio, capsys):
    (trio / "empty").mkdir()
    assert "there are no pictures in" in refused(capsys, trio / "empty", "--reference", trio / "real")
    assert "there is no folder of pictures at" in refused(capsys, trio / "nowhere", "--reference", trio / "real")
    assert "name the folders of pictures to measure" in refused(capsys, "--reference", trio / "real")
    assert "exactly one of the two" in refused(capsys, trio / "near")


def test_a_truncated_file(trio, capsys):
    path = trio / "near" / "003.png"
    path.write_bytes(path.read_bytes()[:90])
    line = refused(capsys, trio / "near", "--reference", trio / "real", "--out", trio / "out")
    assert "003.png cannot be read" in line
    assert list((trio / "out").rglob("*")) == [] if (trio / "out").exists() else True


def test_some_ids_of_the_reference_are_neither_pairs_nor_sets(trio, capsys):
    shutil.rmtree(trio / "far")
    fill(trio / "far", 44)
    assert "reference lacks 4 of 44 pictures" in refused(capsys, trio / "far", "--reference", trio / "real")


@pytest.mark.parametrize(
    ("options", "clue"),
    [
        (["--metrics", "fidd"], "no metric 'fidd'"),
        (["--protocol", "fid50k"], "no protocol 'fid50k'"),
        (["--shard", "3/2"], "'3/2' is not a share"),
        (["--metrics", "agreement"], "agreement needs captions"),
        (["--metrics", "clipscore"], "there is none for '000'"),
        (["--metrics", "codebook"], "codebook counts tokens"),
        (["--allow", "everything"], "--allow"),
    ],
)
def test_wrong_words(trio, capsys, options, clue):
    assert clue in refused(capsys, trio / "near", "--reference", trio / "real", *options)


def test_pairs_without_originals(trio, capsys):
    line = refused(capsys, trio / "near", "--reference", trio / "other", "--metrics", "psnr")
    assert "psnr compares pairs" in line


def test_scenes_pair_up_with_the_world_they_come_from(tmp_path):
    world = World(WorldConfig(resolution=16))
    for seed in range(4):
        image = world.scene(seed, "held-out").image
        save_png(tmp_path / "drawn" / f"held-out-{seed:05d}.png", Image.fromarray(image))
    how = (tmp_path / "drawn", "--world", "4", "--split", "held-out", "--metrics", "ssim", "--out", tmp_path)
    assert ask(*how) == 0
    assert result(tmp_path)["decoders"]["drawn"]["metrics"]["ssim_uniform7"]["value"] == 1


class TinyInception(torch.nn.Module):
    """Stands in for TF-Inception, whose weights are nobody's to ship."""

    identity = "tiny"

    def features(self, images):
        return torch.cat([images.mean((2, 3)), images.std((2, 3))], 1)


class TinyClip(torch.nn.Module):
    """Stands in for CLIP: a caption lies near dark pictures or near bright ones."""

    identity = "tiny-clip"

    def features(self, images):
        return torch.stack([images.mean((1, 2, 3)) < 0, images.mean((1, 2, 3)) >= 0], 1).float()

    def texts(self, texts):
        return torch.tensor([[1.0, 0.0] if "dark" in text else [0.0, 1.0] for text in texts])


@pytest.fixture
def stand_ins(monkeypatch):
    """The published networks and rules at a size that fits a test."""
    nets = {"inception": TinyInception, "clip": TinyClip}
    monkeypatch.setattr("detokenizers.evaluation.networks.published", lambda: nets)
    small = protocols.dcdd_imagenet().vary(num_images=40, size=16)
    monkeypatch.setitem(protocols.PROTOCOLS, "dcdd-imagenet", lambda: small)


@pytest.mark.usefixtures("stand_ins")
def test_under_a_papers_protocol_the_distance_is_rfid_and_stands_above_the_papers(trio, capsys):
    how = ("--reference", trio / "real", "--protocol", "dcdd-imagenet", "--metrics", "psnr", "ssim", "rfid")
    assert ask(trio / "near", *how, "--out", trio / "out") == 0
    metrics = result(trio / "out")["decoders"]["near"]["metrics"]
    assert metrics["rfid"]["label"] == "rFID"
    said = capsys.readouterr().out
    assert "Beside published numbers" in said
    assert "Janus-Pro-7B DCDD (DCDD, Table 2)" in said


@pytest.mark.usefixtures("stand_ins")
def test_at_another_n_the_distance_has_another_name_and_a_tag(trio, capsys):
    (trio / "near" / "039.png").unlink()
    (trio / "real" / "039.png").unlink()
    how = ("--reference", trio / "real", "--protocol", "dcdd-imagenet", "--metrics", "rfid")
    assert "asks for 40 pictures, and here are 39" in refused(capsys, trio / "near", *how)
    assert ask(trio / "near", *how, "--allow", "any-n", "--out", trio / "out") == 0
    metrics = result(trio / "out")["decoders"]["near"]["metrics"]
    assert list(metrics) == ["fd_inception"]
    assert metrics["fd_inception"]["label"] == "FD-inception (N=39)"
    assert "FD-inception (N=39): not comparable." in (trio / "out" / "results.md").read_text()


@pytest.mark.usefixtures("stand_ins")
def test_statistics_of_another_published_protocol_are_refused(trio, capsys):
    ask(trio / "real", "--protocol", "dcdd-imagenet", "--save-reference", trio / "stats.safetensors")
    how = ("--reference", trio / "stats.safetensors", "--protocol", "adm-256", "--metrics", "fid", "--allow", "any-n")
    assert "made under the protocol dcdd-imagenet v2, not adm-256 v2" in refused(capsys, trio / "other", *how)


@pytest.mark.usefixtures("stand_ins")
def test_clipscore_reads_prompts_by_id_from_a_file(tmp_path):
    for name, level in (("a", 10), ("b", 240), ("c", 20)):
        save_png(tmp_path / "drawn" / f"{name}.png", Image.new("RGB", (16, 16), (level, level, level)))
    rows = [{"id": name, "prompt": "a dark night"} for name in "abc"]
    (tmp_path / "prompts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    how = ("--world", "4", "--metrics", "clipscore", "--prompts", tmp_path / "prompts.jsonl", "--out", tmp_path / "out")
    assert ask(tmp_path / "drawn", *how) == 0
    entry = result(tmp_path / "out")["decoders"]["drawn"]
    assert entry["per_image"]["clipscore"] == pytest.approx([100, 0, 100])
    assert entry["metrics"]["clipscore"]["label"] == "CLIPScore-clip-vit-large-patch14"


def test_the_reference_can_be_one_scene_of_each_caption_that_generate_draws(tmp_path):
    world = World(WorldConfig(resolution=16))
    side = SceneSide(5, 16, "prompts")
    for id, scene in zip(side.truths, world.prompts(5), strict=True):
        assert np.array_equal(side.read(id), scene.image)
    seeds = SceneSide(5, 16, "validation")
    assert np.array_equal(seeds.read("validation-00003"), world.scene(3, "validation").image)
    assert side.stamp("prompts-00003") != seeds.stamp("validation-00003")
    assert main(["generate", "--world", "4", "--decoder", "vq", "--out", str(tmp_path / "drawn")]) == 0
    ask = ["evaluate", str(tmp_path / "drawn"), "--world", "4", "--split", "prompts", *FAST, "--metrics", "fd-world"]
    assert main(ask) == 0
    assert json.loads((tmp_path / "drawn" / "results.json").read_text())["n"] == 4
