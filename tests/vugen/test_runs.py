"""Every recipe: two steps of each training on a tiny stack, from one to the next; full-size ones by their settings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from detokenizers.checkpoint import load_tensors
from detokenizers.data.sources import WorldImages
from detokenizers.nn.uvit import UViT
from detokenizers.pretrained.sd3 import SD3Config
from detokenizers.training import train
from detokenizers.training.flow_networks import WorldPerceptual
from detokenizers.vugen.autoencoder import Autoencoder
from detokenizers.vugen.decoders import LatentDecoder
from detokenizers.vugen.model import VUGEN
from detokenizers.vugen.recipes import RECIPES
from detokenizers.vugen.runs import AutoencoderRun, DistillationRun, TowerRun

from ..stack import PIXELS, WORLD
from .tiny import UVIT

SHORT = {"train.steps": 2, "train.batch_size": 4, "train.warmup": 1, "train.log_every": 1}
IMAGES = WorldImages(world=WORLD.config, count=12)


def short(run, **changes):
    return run.vary({**SHORT, "images": IMAGES, **changes})


def trained(run, folder: Path) -> Path:
    train(run.job(), run.train, folder)
    return folder


def stage_a(name: str = "vugen.mini_autoencoder") -> AutoencoderRun:
    run = RECIPES[name]()
    decoder = run.autoencoder.decoder
    if isinstance(decoder, LatentDecoder):
        decoder = decoder.vary(net=SD3Config(latent_size=8, layers=1, heads=2, head_dim=8))
    else:
        decoder = decoder.vary({"net": UVIT.vary(predict=decoder.net.predict), "steps": 2})
    changes = {"autoencoder.decoder": decoder, "autoencoder.size": PIXELS, "start_images": 8, "statistics_images": 8}
    return short(run, **changes)


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory, tiny_stack) -> Path:
    from detokenizers import checkpoint

    patch = pytest.MonkeyPatch()
    patch.setattr(checkpoint, "EMBEDDED", tiny_stack)
    folder = trained(stage_a(), tmp_path_factory.mktemp("autoencoder"))
    patch.undo()
    return folder


@pytest.mark.parametrize(
    "name",
    ["vugen.mini_autoencoder_joint", "vugen.mini_autoencoder_pca", "vugen.mini_ratio_1", "vugen.mini_ratio_4",
     "vugen.mini_latent_decoder"],
)  # fmt: skip
def test_every_row_of_stage_a_trains_and_reconstructs(name, embedded, tmp_path):
    loaded = Autoencoder.load(trained(stage_a(name), tmp_path))
    latents = loaded.encode(IMAGES.open().images(range(4)))
    assert loaded.decode(latents, seeds=range(4), steps=2).shape == (4, 3, PIXELS, PIXELS)
    assert (latents.flatten(0, 1).var(0, correction=0) - 1).abs().max() < 1.5  # of four images, by statistics of eight


def test_the_three_trainings_lead_to_a_model_that_draws(embedded, autoencoder, tmp_path):
    sheet = (autoencoder / "preview.png", (autoencoder / "log.jsonl").read_text())
    assert sheet[0].exists()
    assert '"perceptual"' in sheet[1]
    assert '"alignment"' in sheet[1]
    distil = short(RECIPES["vugen.mini_distil"](), folder=str(autoencoder), cache=str(tmp_path / "cache"), kept=8)
    student = trained(distil, tmp_path / "distil")
    assert Autoencoder.load(student).config.decoder.steps == 1
    old, new = (load_tensors(folder / "decoder.safetensors") for folder in (autoencoder, student))
    assert any(not torch.equal(old[name], new[name]) for name in old)
    reducers = [load_tensors(folder / "reducer.safetensors") for folder in (autoencoder, student)]
    assert all(torch.equal(reducers[0][name], reducers[1][name]) for name in reducers[0])  # f is frozen

    tower = short(
        RECIPES["vugen.mini"](),
        cache=str(tmp_path / "cache"),
        **{"model.target.folder": str(student), "model.steps": 2},
    )
    model = VUGEN.load(trained(tower, tmp_path / "tower"))
    prompts = IMAGES.open().captions(range(2))
    assert model(prompts, seeds=[0, 1]).shape == (2, 3, PIXELS, PIXELS)
    assert (tmp_path / "tower" / "preview.png").exists()


@pytest.mark.usefixtures("embedded")
def test_a_decoder_that_learns_on_leaves_reducer_and_statistics_as_they_are(autoencoder, tmp_path):
    changes = {"start": str(autoencoder), "perceptual": {"kind": "none"}, "alignment": {"kind": "none"}}
    folder = trained(stage_a().vary(changes), tmp_path)
    before, after = (load_tensors(place / "reducer.safetensors") for place in (autoencoder, folder))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    before, after = (load_tensors(place / "decoder.safetensors") for place in (autoencoder, folder))
    moved = [(before[name].float() - after[name].float()).abs().max().item() for name in before]
    assert 0 < max(moved) < 0.1, "two steps from where the first training ended"
    another = {"start": str(autoencoder), "autoencoder.decoder.net.widths": (16, 16)}
    after = load_tensors(trained(stage_a().vary(another), tmp_path / "another") / "reducer.safetensors")
    before = load_tensors(autoencoder / "reducer.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before), "also for a decoder that starts from nothing"
    other = stage_a().vary({"start": str(autoencoder), "autoencoder.reducer.ratio": 4})
    with pytest.raises(ValueError, match="reducer"):
        other.job()


def test_a_distillation_can_ask_its_teacher_at_every_step(embedded, autoencoder, tmp_path):
    distil = short(RECIPES["vugen.mini_distil"](), folder=str(autoencoder), kept=None)
    job = distil.job()
    teacher = job.objective._pairs.net
    before = {name: x.clone() for name, x in teacher.state_dict().items()}
    train(job, distil.train, tmp_path)
    assert Autoencoder.load(tmp_path).config.decoder.steps == 1
    assert all(torch.equal(x, before[name]) for name, x in teacher.state_dict().items())
    assert any(not torch.equal(x, before[name]) for name, x in job.objective.student.state_dict().items())


@pytest.mark.parametrize("name", ["vugen.mini_decoupled", "vugen.mini_repa"])
def test_baselines_train_and_draw(name, embedded, tmp_path):
    run = short(RECIPES[name](), cache=str(tmp_path / "cache"), **{"model.target.size": PIXELS, "model.steps": 2})
    job = run.job()
    train(job, run.train, tmp_path / "run")
    model = VUGEN.load(tmp_path / "run")
    assert job.inputs == {
        "images": IMAGES.open().fingerprint(),
        "target": model.target.fingerprint(),
        "VLM": model.vlm.fingerprint(),
    }
    assert model(IMAGES.open().captions([0]), seeds=[0]).shape == (1, 3, PIXELS, PIXELS)
    logged = (tmp_path / "run" / "log.jsonl").read_text()
    assert ('"alignment"' in logged) == (name == "vugen.mini_repa")


def test_stage_b_is_the_same_when_its_batches_are_split(embedded, autoencoder, tmp_path):
    run = short(RECIPES["vugen.mini"](), cache=str(tmp_path / "cache"), **{"model.target.folder": str(autoencoder)})
    whole = trained(run, tmp_path / "whole")
    split = trained(run.vary({"train.accumulate": 2}), tmp_path / "split")
    a, b = (load_tensors(folder / "tower.safetensors") for folder in (whole, split))
    assert all(torch.allclose(a[name].float(), b[name].float(), atol=2e-3) for name in a)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_a_docstring_its_own_name_and_survives_yaml(name):
    recipe = RECIPES[name]
    run = recipe()
    assert run.recipe == name
    assert recipe.__doc__
    assert type(run).parse(yaml.safe_load(run.to_yaml())) == run
    assert isinstance(run, AutoencoderRun | DistillationRun | TowerRun)


def test_full_size_rows_differ_in_what_their_names_say():
    def settings(name: str) -> dict:
        return RECIPES[name]().model_dump(exclude={"recipe"})

    def differing(a: str, b: str) -> set[str]:
        left, right = settings(a), settings(b)
        return {key for key in left if left[key] != right[key]}

    assert differing("vugen.plm_1b", "vugen.decoupled") == {"model"}
    assert differing("vugen.decoupled", "vugen.repa") == {"repa"}
    assert differing("vugen.imagenet_decoupled", "vugen.imagenet_repa") == {"repa"}
    assert differing("vugen.mini", "vugen.mini_decoupled") == {"model"}
    assert differing("vugen.autoencoder", "vugen.autoencoder_pca") == {"autoencoder"}
    assert differing("vugen.mini_autoencoder", "vugen.mini_ratio_4") == {"autoencoder"}
    assert RECIPES["vugen.imagenet"]().model.guidance == 1.8
    assert RECIPES["vugen.plm_1b"]().model.guidance == 5.0


def test_at_full_size_the_pixel_decoder_is_the_papers():
    decoder = RECIPES["vugen.autoencoder"]().autoencoder.decoder
    with torch.device("meta"):
        count = sum(weight.numel() for weight in UViT(decoder.net.vary(condition=64)).parameters())
    assert count == 50_386_899  # "48M" of 2^20, with the 17 x 17 window


def test_both_full_size_targets_have_256_tokens_of_64_numbers():
    run = RECIPES["vugen.decoupled"]()
    target = run.model.target
    assert (target.size // (8 * target.patch)) ** 2 * 16 * target.patch**2 == 256 * 64
    assert RECIPES["vugen.autoencoder"]().autoencoder.reducer.kept(1024) == 64


def test_a_perceptual_loss_on_latents_is_refused():
    run = RECIPES["vugen.mini_latent_decoder"]()
    with pytest.raises(ValueError, match="a perceptual loss reads pixels"):
        run.vary(perceptual=WorldPerceptual())
