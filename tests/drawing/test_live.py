"""Pictures in memory: the same as the folders' own, with the steps, seconds and captions that a page shows beside."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import detokenizers as dt
from detokenizers import drawing
from detokenizers.data.images import to_pil
from detokenizers.drawing.decoders import confidence, labelled, load_decoders
from detokenizers.drawing.live import LiveDrawing
from detokenizers.seeds import item_seed
from tests.drawing.folders import PROMPTS
from tests.drawing.foreign import Mixer, Painter, Poster
from tests.madit import tiny


@pytest.fixture
def live(embedded):
    vlm = dt.load_vlm("mini")
    return LiveDrawing(vlm, load_decoders(labelled(("vq", "mini/dcdd")), lambda: vlm.tokenizer, torch.device("cpu")))


def test_a_prompt_gives_the_picture_that_generate_writes(live, tmp_path):
    written = drawing.generate(PROMPTS[0], decoder=("vq", "mini/dcdd"), seed=3, steps=2, out=tmp_path)
    shown = live.draw(PROMPTS[0], 3, steps=2)
    assert list(shown.pictures) == ["vq", "dcdd"]
    for label, picture in shown.pictures.items():
        assert_alike(picture, Image.open(written.paths(label)[0]))
    assert list(shown.scores) == ["tokens", "vq", "dcdd"]
    assert list(shown.captions) == ["vq", "dcdd"]
    assert np.asarray(live.draw(PROMPTS[0], 4, steps=2).pictures["vq"]).tobytes() != shown.pictures["vq"].tobytes()


def test_a_picture_gives_what_reconstruct_writes_and_measures(live, tmp_path):
    path = tmp_path / "photo.png"
    Image.effect_noise((40, 30), 90).convert("RGB").save(path)
    written = drawing.reconstruct(path, seed=3, steps=2, out=tmp_path / "out")
    shown = live.reconstruct(path, 3, steps=2)
    assert list(shown.pictures) == ["original", "vq", "dcdd"]
    for label, picture in shown.pictures.items():
        assert_alike(picture, Image.open(written.paths(label)[0]))
    for label in ("vq", "dcdd"):
        near = written.scores[label]["psnr"]["value"]
        assert shown.scores[label]["psnr"]["value"] == pytest.approx(near, abs=0.1)


def test_the_steps_of_a_decoder_end_with_its_picture(live):
    shown = live.draw(PROMPTS[0], steps=3)
    assert [(one.label, one.number, one.of) for one in shown.steps] == [("dcdd", number, 3) for number in (1, 2, 3)]
    assert_alike(shown.steps[-1].picture, shown.pictures["dcdd"])
    assert shown.steps[0].picture.tobytes() != shown.steps[-1].picture.tobytes()
    many = live.draw(PROMPTS[0], steps=20).steps
    assert [one.number for one in many] == [2, 5, 8, 10, 12, 15, 18, 20]


def test_the_steps_of_madit_are_its_rounds(tmp_path):
    codes, vlm = tiny.tokenizer(tiny.vae_folder(tmp_path)), Painter()
    vlm.tokenizer, model = codes, tiny.model(codes)
    shown = LiveDrawing(vlm, {"madit": model}).draw("a dog")  # pyright: ignore[reportArgumentType]
    tokens, seeds = vlm.generate(["a dog"], seeds=[item_seed(0, "a-dog")]), [item_seed(0, "a-dog")]
    rounds = [to_pil(codes.draw(patches)[0]) for patches in model.rounds(tokens, seeds=seeds)]
    assert [(one.number, one.of) for one in shown.steps] == [(number, 5) for number in range(1, 6)]
    for step, expected in zip(shown.steps, rounds, strict=True):
        assert_alike(step.picture, expected)
    assert_alike(shown.pictures["madit"], rounds[-1])


def test_the_heat_map_has_the_uncertainty_of_every_token():
    shown = LiveDrawing(Painter(), {"mixer": Mixer()}).draw("a dog")  # pyright: ignore[reportArgumentType]
    heat = np.asarray(shown.heat).astype(int)
    assert heat.shape == (192, 192, 3)
    tokens = Painter().generate(["a dog"], seeds=[item_seed(0, "a-dog")], observe={"sure": confidence})
    brightness = heat.sum(-1)[24::48, 24::48]
    assert brightness.argmax() == int(tokens.observed["sure"].argmin())
    assert brightness.argmin() == int(tokens.observed["sure"].argmax())


def test_any_decoder_that_keeps_the_protocol_is_shown_and_a_vlm_need_not_understand():
    live = LiveDrawing(Painter(), {"mixer": Mixer(), "poster": Poster()})  # pyright: ignore[reportArgumentType]
    shown = live.draw("a dog", seed=1)
    assert list(shown.pictures) == ["mixer", "poster"]
    assert (shown.steps, shown.captions) == ([], {})


def test_a_decoder_that_needs_a_picture_is_refused_from_the_start(embedded):
    vlm = dt.load_vlm("mini")
    with pytest.raises(ValueError, match="vq-unrounded draws from the features"):
        LiveDrawing(vlm, load_decoders(labelled(("vq-unrounded",)), lambda: vlm.tokenizer, torch.device("cpu")))


def assert_alike(one: Image.Image, other: Image.Image) -> None:
    assert np.abs(np.asarray(one).astype(int) - np.asarray(other)).max() <= 1
