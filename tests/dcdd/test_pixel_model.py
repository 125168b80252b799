"""DCDD that draws pixels: conditioned on distributions, in many steps or one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from detokenizers import checkpoint
from detokenizers.checkpoint import fingerprint, load_tensors
from detokenizers.data.sources import WorldImages
from detokenizers.dcdd.calibration import Calibration
from detokenizers.dcdd.pixel_model import PixelDCDD, PixelDCDDConfig
from detokenizers.dcdd.pixel_runs import RECIPES, OneStepRun
from detokenizers.nn.uvit import UViT, UViTConfig
from detokenizers.pretrained.vlm.loading import load_tokenizer
from detokenizers.protocols import Grid
from detokenizers.training import train
from detokenizers.training.flow_networks import WorldAlignment, WorldPerceptual

from ..stack import PIXELS, WORLD
from .tiny import Tokenizer, codebook

NET = UViTConfig(widths=(8, 16), blocks=1, heads=2, radius=2, groups=4)
CONFIG = PixelDCDDConfig(calibration=Calibration(kappa=20.0), net=NET, token_stride=8, steps=2)
REPORT = Path(checkpoint.__file__).parent / "embedded/mini/dcdd/calibration.json"
IMAGES = WorldImages(world=WORLD.config, count=12)


def decoder() -> PixelDCDD:
    torch.manual_seed(0)
    built = CONFIG.build(codebook())
    with torch.no_grad():
        for weight in built.net.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return built.requires_grad_(False).eval()


def tokens(model: PixelDCDD):
    return model.read(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1, Tokenizer())


def test_distributions_decide_the_image():
    model = decoder()
    some = tokens(model)
    drawn = model(some)
    assert drawn.shape == (2, 3, 32, 32)
    assert torch.equal(model(some, steps=2, seeds=[0, 1]), drawn)
    assert torch.allclose(model(some[1:], seeds=[1]), drawn[1:], atol=1e-5)
    others = {name: numbers.flip(1) for name, numbers in some.observed.items()}
    assert not torch.allclose(model(replace(some, observed=others)), drawn, atol=1e-2)


def test_a_cold_one_draws_one_image_of_its_tokens():
    model = CONFIG.vary(temperature=0.0).build(codebook()).eval()
    assert torch.equal(model(tokens(model), seeds=[0, 1]), model(tokens(model), seeds=[2, 3]))


def test_a_feature_lands_on_its_tokens_cell():
    model, observed = decoder(), torch.arange(16.0).view(1, 16, 1).expand(-1, -1, 12)
    placed = model.encode(observed, Grid(4, 4))
    assert float(placed[0, 3, 1, 2]) == 6


def test_the_vlms_distributions_are_read_as_the_encoders():
    model, logits = decoder(), torch.randn(3, 32)
    (observe,) = model.observers.values()
    observed = observe(logits, logits.argmax(-1))
    assert set(model.observers) == model.needs
    assert observed.shape == (3, model.net.config.condition)


def test_a_saved_decoder_draws_the_same(tmp_path):
    model = decoder()
    model.save(tmp_path)
    loaded = PixelDCDD.load(tmp_path)
    assert torch.equal(loaded(tokens(model)), model(tokens(model)))
    assert loaded.fingerprint() == model.fingerprint()
    assert (tmp_path / "decoder.yaml").read_text().startswith("kind: dcdd_pixels\n")


def test_tokens_without_features_or_with_too_few_numbers_are_refused():
    model = decoder()
    with pytest.raises(ValueError, match="come without lcdm"):
        model(replace(tokens(model), observed={}))
    with pytest.raises(ValueError, match=r"expected \[b 16 12\] observed features for a 4x4 grid, got \[2, 16, 5\]"):
        model(replace(tokens(model), observed={model.observation: torch.zeros(2, 16, 5)}))


def short(run, **changes):
    return run.vary({"train.steps": 2, "train.batch_size": 4, "train.log_every": 1, "images": IMAGES, **changes})


def pixels(place, **changes):
    settings = {"calibration": None, "decoder.calibration.kappa": 20.0, "cache": str(place / "cache")}
    sizes = {"decoder.net": NET, "decoder.token_stride": PIXELS // 4}
    return short(RECIPES["dcdd.mini_pixels"](), **{**settings, **sizes, **changes})


TERMS = {"perceptual": WorldPerceptual(), "alignment": WorldAlignment()}


@pytest.mark.parametrize("terms", [{}, TERMS], ids=["flow error alone", "with the judge's features"])
def test_the_embedded_recipes_lead_to_a_decoder_of_one_step(embedded, tmp_path, terms):
    many = pixels(tmp_path, **terms)
    train(many.job(), many.train, tmp_path / "many")
    one = short(RECIPES["dcdd.one_step"](), folder=str(tmp_path / "many"), cache=many.cache, kept=8, **terms)
    losses = train(one.job(), one.train, tmp_path / "one")
    assert set(losses) == {"loss", "flow", *terms}
    loaded, tokenizer = PixelDCDD.load(tmp_path / "one"), load_tokenizer("mini")
    assert loaded.steps == 1
    assert loaded(loaded.read(IMAGES.open().images([0]), tokenizer)).shape == (1, 3, PIXELS, PIXELS)
    assert (tmp_path / "one" / "preview.png").exists()


def test_it_learns_on_from_a_finished_run(embedded, tmp_path):
    first = pixels(tmp_path)
    train(first.job(), first.train, tmp_path / "first")
    kept = load_tensors(tmp_path / "first" / "decoder.safetensors")
    net = pixels(tmp_path, start=str(tmp_path / "first")).job().objective.decoder.net.state_dict()
    assert net.keys() == kept.keys()
    assert all(torch.equal(net[name], kept[name].float()) for name in kept)


def test_it_learns_with_the_calibration_of_a_report_and_with_no_other_vlms(embedded, tmp_path):
    own, report = fingerprint(load_tokenizer("mini").codebook), json.loads(REPORT.read_text())
    (tmp_path / "own.json").write_text(json.dumps(report | {"codebook_sha256": own}))
    run = pixels(tmp_path, **{"calibration": str(tmp_path / "own.json"), "decoder.calibration.kappa": 1.0})
    train(run.job(), run.train, tmp_path / "run")
    assert PixelDCDD.load(tmp_path / "run").config.calibration.kappa == report["calibration"]["kappa"]
    with pytest.raises(ValueError, match="the calibration is given twice"):
        run.vary({"decoder.calibration.kappa": 20.0}).job()
    with pytest.raises(ValueError, match="this calibration belongs to codebook"):
        run.vary(calibration=str(REPORT)).job()
    for name in ("dcdd.mini_pixels", "dcdd.janus_pixel_m"):
        recipe = RECIPES[name]()
        assert recipe.calibration
        assert recipe.decoder.calibration == Calibration()  # nothing stands in for a report


def test_its_features_are_those_that_other_decoders_have_kept(embedded, tmp_path):
    run = pixels(tmp_path)
    (kept,) = made(run.job(), tmp_path)
    kept.rename(tmp_path / "cache" / f"{kept.name}-space-scale")
    assert made(run.job(), tmp_path) == [tmp_path / "cache" / f"{kept.name}-space-scale"]


def made(job, place):
    """The folders of the cache, once a batch has been asked for."""
    assert job.batches(0, 4)["features"].shape[0] == 4
    return list((place / "cache").iterdir())


def test_a_teacher_of_another_tokenizer_is_refused(embedded, tmp_path):
    decoder().save(tmp_path)
    with pytest.raises(ValueError, match="this decoder was trained for 32 codes"):
        short(OneStepRun(recipe="x", folder=str(tmp_path))).job()


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_a_docstring_and_its_own_name(name):
    assert RECIPES[name]().recipe == name
    assert RECIPES[name].__doc__


def test_at_full_size_it_is_a_u_vit_m_on_janus_codes():
    net = RECIPES["dcdd.janus_pixel_m"]().decoder.net
    with torch.device("meta"):
        count = sum(weight.numel() for weight in UViT(net).parameters())
    assert count == 50_280_147 + 4 * 12 * 64 + (12 - 4) * 9 * 96 * 2  # M on 4 channels, a 17 x 17 window, 12 channels
