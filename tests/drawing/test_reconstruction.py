"""Pictures to tokens and back: scores, ceilings, and the same preparation of a picture everywhere."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from detokenizers.cli import main
from detokenizers.data.images import find, upright
from detokenizers.data.pictures import pictures as pictures_of
from detokenizers.data.sources import FolderImages
from detokenizers.evaluation.rules import rules_of
from detokenizers.evaluation.sides import reference_reader
from detokenizers.pixels import to_levels, to_tensor
from detokenizers.pretrained.spaces import PretrainedVAE
from tests import stack
from tests.drawing.folders import PROMPTS, assert_alike, pictures


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
    assert np.array_equal(to_levels(trained)[0], reconstructed)
    assert np.array_equal(to_levels(next(calibrated).images)[0], reconstructed)
    for name in ("world", "evalgim", "dcdd-imagenet", "dcdd-mjhq", "madit-imagenet"):
        judged = reference_reader(files, rules_of(name), stack.PIXELS)(files[0].path)
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
    image = to_tensor(np.asarray(upright(tmp_path / "original" / "validation-00001.png"))[None])
    space = PretrainedVAE(name="mini/vae").build()
    there_and_back = space.decode(space.encode(image))
    drawn = to_tensor(np.asarray(upright(tmp_path / "vae" / "validation-00001.png"))[None])
    torch.testing.assert_close(drawn, there_and_back, atol=1.01 / 127.5, rtol=0)
    assert main(["generate", PROMPTS[0], *ask]) == 2
    assert "vae draws from the latents of pictures" in capsys.readouterr().err
