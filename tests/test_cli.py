"""The verbs, end to end on a tiny random stack: what they write, that they go on where they stopped, and that pictures
depend on weights, prompt and seed alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import detokenizers as dt
from detokenizers.cli import main
from detokenizers.cli.verbs import Calibrate
from detokenizers.data.canonical import read
from detokenizers.data.images import find, notes_of, to_pixels, to_tensor
from detokenizers.data.sources import FolderImages
from detokenizers.data.world.scenes import caption
from detokenizers.data.world.world import World, WorldConfig
from detokenizers.drawing.sources import pictures as pictures_of
from detokenizers.evaluation.rules import protocol
from detokenizers.evaluation.sides import reference_reader
from detokenizers.pretrained.spaces import PretrainedVAE
from tests import stack

PROMPTS = ["a dog on grass", "a red apple on a wooden table", "two cats on a blue background"]


def pictures(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*/*.png"))}


def assert_alike(left: Path, right: Path) -> None:
    """The same pictures of the same prompts, but for one level: another batch sums in another order."""
    assert pictures(left).keys() == pictures(right).keys()
    for name in pictures(left):
        assert notes_of(left / name) == notes_of(right / name)
        both = [np.asarray(Image.open(folder / name)).astype(int) for folder in (left, right)]
        assert np.abs(both[0] - both[1]).max() <= 1


@pytest.mark.usefixtures("embedded")
def test_generate_draws_every_prompt_with_every_decoder_and_a_sheet(tmp_path, capsys):
    assert main(["generate", *PROMPTS[:2], "--compare", "--steps", "2", "--out", str(tmp_path)]) == 0
    drawn = pictures(tmp_path)
    ids = ["a-dog-on-grass", "a-red-apple-on-a-wooden-table"]
    assert sorted(drawn) == sorted(f"{label}/{id}.png" for label in ("vq", "dcdd") for id in ids)
    notes = notes_of(tmp_path / "dcdd" / f"{ids[1]}.png")
    assert notes["prompt"] == PROMPTS[1]
    assert {"seed", "vlm", "guidance", "temperature", "steps", "weights", "versions"} <= set(notes)
    rows = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == PROMPTS[:2]
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 3 * 192
    out, err = capsys.readouterr()
    assert str(tmp_path / "sheet.png") in out
    assert err == ""


@pytest.mark.usefixtures("embedded")
def test_generate_without_compare_draws_only_what_was_asked(tmp_path):
    assert main(["generate", PROMPTS[0], "--decoder", "vq", "--out", str(tmp_path)]) == 0
    assert list(pictures(tmp_path)) == ["vq/a-dog-on-grass.png"]


@pytest.mark.usefixtures("embedded")
def test_pictures_do_not_depend_on_batch_size_company_or_interruption(tmp_path):
    options = ["--compare", "--steps", "2", "--per-prompt", "2"]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": p, "id": p[:5]}) + "\n" for p in PROMPTS))
    file = ["--prompts", str(tmp_path / "prompts.jsonl")]
    main(["generate", *file, *options, "--batch", "4", "--out", str(tmp_path / "together")])
    main(["generate", *file, *options, "--batch", "1", "--out", str(tmp_path / "alone")])
    together = pictures(tmp_path / "together")
    assert len(together) == 12
    assert len({together[name] for name in together}) == 12
    assert_alike(tmp_path / "alone", tmp_path / "together")

    for path in list((tmp_path / "alone").rglob("*/*.png"))[::2]:
        path.unlink()
    main(["generate", *file, *options, "--batch", "3", "--out", str(tmp_path / "alone")])
    assert_alike(tmp_path / "alone", tmp_path / "together")


@pytest.mark.usefixtures("embedded")
def test_tokens_are_the_same_in_any_company_and_observations_up_to_rounding():
    vlm, dcdd = dt.load_vlm("mini"), dt.load("mini/dcdd")
    together = vlm.generate(PROMPTS, seeds=[0, 1, 2], observe=dcdd.observers)
    for row, prompt in enumerate(PROMPTS):
        alone = vlm.generate([prompt], seeds=[row], observe=dcdd.observers)
        assert alone.ids.equal(together.ids[row : row + 1])
        for name, observed in together.observed.items():
            torch.testing.assert_close(alone.observed[name], observed[row : row + 1], atol=1e-4, rtol=0)


@pytest.mark.usefixtures("embedded")
def test_generate_again_draws_nothing_and_more_per_prompt_keeps_the_first(tmp_path, monkeypatch):
    ask = ["generate", PROMPTS[0], "--steps", "2", "--out", str(tmp_path)]
    main(ask)
    first = (tmp_path / "dcdd" / "a-dog-on-grass.png").stat().st_mtime_ns
    monkeypatch.setattr("detokenizers.pretrained.vlm.token_loop.TokenLoop.sample", None)
    assert main(ask) == 0
    monkeypatch.undo()
    assert (tmp_path / "dcdd" / "a-dog-on-grass.png").stat().st_mtime_ns == first


@pytest.mark.usefixtures("embedded")
def test_a_decoder_added_later_draws_from_the_same_tokens(tmp_path, monkeypatch):
    main(["generate", PROMPTS[0], "--steps", "2", "--out", str(tmp_path)])
    monkeypatch.setattr("detokenizers.pretrained.vlm.token_loop.TokenLoop.sample", None)
    assert main(["generate", PROMPTS[0], "--steps", "2", "--compare", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "vq" / "a-dog-on-grass.png").exists()


@pytest.mark.usefixtures("embedded")
@pytest.mark.parametrize("change", [["--seed", "1"], ["--guidance", "2"], ["--steps", "3"]])
def test_pictures_made_otherwise_are_not_passed_off_as_asked(tmp_path, capsys, change):
    ask = ["generate", PROMPTS[0], "--steps", "2", "--out", str(tmp_path)]
    main(ask)
    before = pictures(tmp_path)
    capsys.readouterr()
    assert main([*ask, *change]) == 2
    assert "was made with" in capsys.readouterr().err
    assert pictures(tmp_path) == before


@pytest.mark.usefixtures("embedded")
def test_reconstruct_measures_world_scenes_and_a_single_photo(tmp_path, capsys):
    assert main(["reconstruct", "--world", "3", "--steps", "2", "--out", str(tmp_path / "world")]) == 0
    result = json.loads((tmp_path / "world" / "results.json").read_text())
    assert set(result["decoders"]) == {"vq", "dcdd"}
    assert len(result["decoders"]["dcdd"]["per_image"]["psnr"]) == 3
    assert "| vq |" in capsys.readouterr().out

    noise = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.jpg")
    ask = ["reconstruct", str(tmp_path / "photo.jpg"), "--decoder", "vq", "--out", str(tmp_path / "photo")]
    assert main(ask) == 0
    assert sorted(pictures(tmp_path / "photo")) == ["original/photo.png", "vq/photo.png"]
    assert (tmp_path / "photo" / "sheet.png").exists()


@pytest.mark.usefixtures("embedded")
def test_decoding_several_at_once_changes_nothing_but_rounding(tmp_path):
    for size in ("1", "3"):
        ask = ["--decoder", "vq", "mini/dcdd", "--steps", "2", "--decode-batch", size]
        assert main(["generate", *PROMPTS, *ask, "--out", str(tmp_path / "generate" / size)]) == 0
        assert main(["reconstruct", "--world", "4", *ask, "--out", str(tmp_path / "reconstruct" / size)]) == 0
    for verb in ("generate", "reconstruct"):
        assert_alike(tmp_path / verb / "1", tmp_path / verb / "3")


@pytest.mark.usefixtures("embedded")
def test_every_verb_prepares_a_picture_alike_and_enlarges_a_small_one(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "small.png")
    assert main(["reconstruct", str(tmp_path / "small.png"), "--decoder", "vq", "--out", str(tmp_path / "out")]) == 0
    reconstructed = np.asarray(Image.open(tmp_path / "out" / "original" / "small.png"))

    files = find(tmp_path / "small.png")
    trained = FolderImages(path=str(tmp_path / "small.png"), size=stack.PIXELS).open().images([0])
    calibrated = pictures_of([tmp_path / "small.png"], 0, stack.PIXELS, 1).batches
    assert np.array_equal(to_pixels(trained)[0], reconstructed)
    assert np.array_equal(to_pixels(next(calibrated).images)[0], reconstructed)
    for name in ("world", "evalgim", "dcdd-imagenet", "dcdd-mjhq", "madit-imagenet"):
        judged = reference_reader(files, protocol(name), stack.PIXELS)(files[0].path)
        assert np.array_equal(judged, reconstructed), name


@pytest.mark.usefixtures("embedded")
def test_the_ceiling_reconstructs_and_does_not_generate(tmp_path, capsys):
    ask = ["--decoder", "vq", "vq-unrounded", "--out", str(tmp_path)]
    assert main(["reconstruct", "--world", "2", *ask]) == 0
    drawn = pictures(tmp_path)
    assert drawn["vq/validation-00000.png"] != drawn["vq-unrounded/validation-00000.png"]
    assert main(["generate", "a dog", *ask]) == 2
    assert "vq-unrounded draws from the features of pictures" in capsys.readouterr().err


@pytest.mark.usefixtures("embedded")
def test_an_autoencoder_is_a_ceiling_too_and_cannot_draw_from_tokens(tmp_path, capsys):
    ask = ["--decoder", "vq", "mini/vae", "--out", str(tmp_path)]
    assert main(["reconstruct", "--world", "2", *ask]) == 0
    image = to_tensor(read(tmp_path / "original" / "validation-00001.png", stack.PIXELS)[None])
    space = PretrainedVAE(name="mini/vae").build()
    there_and_back = space.decode(space.encode(image))
    drawn = to_tensor(read(tmp_path / "vae" / "validation-00001.png", stack.PIXELS)[None])
    torch.testing.assert_close(drawn, there_and_back, atol=1.01 / 127.5, rtol=0)
    assert main(["generate", PROMPTS[0], *ask]) == 2
    assert "vae draws from the latents of pictures" in capsys.readouterr().err


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
    said = capsys.readouterr()
    assert code == 0, said.err
    assert json.loads(out.read_text())["beta_effect"] == "none (softmax-invariant)"
    assert out.with_suffix(".png").exists()
    assert "| normalized entropy |" in said.out
    assert "| cosine to sampled |" in said.out

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
    from detokenizers.cli.recipes import RECIPES

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
