"""One row of a table, end to end on a tiny stack: images to a decoder that loads and draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from detokenizers.checkpoint import load_tensors, resolve, save_tensors
from detokenizers.data.sources import FolderImages, WorldImages
from detokenizers.dcdd.calibrate import CalibrationReport, calibrate, measure
from detokenizers.dcdd.calibration import Calibration, Untouched
from detokenizers.dcdd.condition import CondConfig
from detokenizers.dcdd.lcdm import Committed, Expectation
from detokenizers.dcdd.model import DCDD, WEIGHTS, DCDDConfig
from detokenizers.dcdd.proxies import AnySharpness, Proxy, TeacherForced
from detokenizers.dcdd.runs import READS, DCDDRun, Sample, begin_from
from detokenizers.dcdd.search import SearchConfig
from detokenizers.papers import load
from detokenizers.pretrained.flux.scope import Attention, Full
from detokenizers.pretrained.spaces import VAE, PretrainedVAE, save_vae
from detokenizers.pretrained.vlm.loading import load_tokenizer, load_vlm
from detokenizers.training import TrainConfig, train
from detokenizers.training.draws import SEEDS
from detokenizers.training.report import read_log
from tests import stack

SOURCE = WorldImages(world=stack.WORLD.config, count=12)


@pytest.fixture
def run(tmp_path, embedded) -> DCDDRun:
    decoder = DCDDConfig(
        condition=CondConfig(width=8, groups=4),
        net=stack.FLUX,
        scope=Full(),
        space=PretrainedVAE(name="mini/vae"),
        token_stride=stack.PIXELS // 4,
    )
    return DCDDRun(
        recipe="dcdd.test",
        vlm="mini",
        images=SOURCE,
        decoder=decoder.vary({"calibration.kappa": 20.0}),
        cache=str(tmp_path / "cache"),
        train=TrainConfig(steps=6, batch_size=4, lr=5e-3, warmup=0, log_every=1, ema_decay=0.5),
    )


@pytest.mark.parametrize("distribution", [Proxy(), AnySharpness(), TeacherForced(guidance=2.0)])
def test_a_run_leaves_a_decoder_that_loads_and_draws(run, tmp_path, distribution):
    run = run.vary({"distribution": distribution})
    losses = train(run.job(), run.train, tmp_path / "run")
    assert np.isfinite(losses["loss"])
    assert 0 < read_log(tmp_path / "run" / "log.jsonl")[-1]["held_out"] < 100
    dcdd, vlm = load(tmp_path / "run"), load_vlm("mini")
    tokens = vlm.generate(["a dog on grass"], seeds=[0], observe=dcdd.observers)
    assert dcdd(tokens, steps=2).shape == (1, 3, stack.PIXELS, stack.PIXELS)
    with Image.open(tmp_path / "run" / "preview.png") as sheet:
        assert sheet.size == (2 * 8 * stack.PIXELS, 2 * 3 * stack.PIXELS)


def test_the_batch_is_the_encoded_images_of_its_rows(run, embedded):
    job, tokenizer = run.vary({"distribution": TeacherForced(guidance=2.0)}).job(), load_tokenizer("mini")
    batch = job.batches(0, 12)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0)).tolist()
    source, vlm = SOURCE.open(), load_vlm("mini")
    features = tokenizer.features(source.images(order))
    torch.testing.assert_close(batch["features"], features, atol=1e-3, rtol=1e-3)
    dcdd = job.objective.dcdd
    seen = vlm.teacher_forced(source.captions(order), tokenizer.tokens(features), observe=dcdd.observers, guidance=2.0)
    torch.testing.assert_close(batch["observed"], seen.observed[dcdd.observation], atol=2e-3, rtol=1e-2)
    assert {value.dtype for value in batch.values()} == {torch.float32}


def report(codebook: torch.Tensor, path: Path) -> CalibrationReport:
    features = torch.nn.functional.normalize(torch.randn(50, codebook.shape[1]), dim=-1)
    targets = measure(Calibration(kappa=30.0), features, codebook)
    found = calibrate(features, codebook, targets, settings=SearchConfig(epsilons=(0.0, 0.01)))
    found.save(path)
    return found


def test_a_run_takes_all_numbers_of_a_calibration_report_and_leaves_them_in_its_decoder(run, tmp_path, embedded):
    codebook = load_tokenizer("mini").codebook
    found = report(codebook, tmp_path / "found.json").calibration
    given = run.vary(
        {"calibration": str(tmp_path / "found.json"), "decoder.calibration": Calibration(vlm_side=Untouched())}
    )
    train(given.job(), given.train, tmp_path / "run")
    assert load(tmp_path / "run").calibration == found.vary(vlm_side=Untouched())
    assert given.job().inputs.keys() - run.job().inputs.keys() == {"calibration"}


def test_a_calibration_that_is_missing_foreign_or_given_twice_is_refused(run, tmp_path, embedded):
    with pytest.raises(ValueError, match=r"there is no calibration report at nowhere.json; `detok"):
        run.vary({"calibration": "nowhere.json", "decoder.calibration": Calibration()}).job()
    codebook = load_tokenizer("mini").codebook
    report(codebook.flip(0), tmp_path / "foreign.json")
    with pytest.raises(ValueError, match="calibrate again for this tokenizer"):
        run.vary({"calibration": str(tmp_path / "foreign.json"), "decoder.calibration": Calibration()}).job()
    report(codebook, tmp_path / "own.json")
    with pytest.raises(ValueError, match=r"given twice, by .*own.json and by decoder.calibration"):
        run.vary({"calibration": str(tmp_path / "own.json")}).job()


def test_a_run_yaml_of_before_is_read(run, tmp_path):
    """`distribution` was `belief`, and of the decoder `lcdm` was `reading`, its `uncertainty` was `lcdm`."""
    settings = run.vary({"distribution": AnySharpness()}).model_dump(mode="json")
    old = {
        ("belief" if key == "distribution" else key): value for key, value in settings.items() if key != "calibration"
    }
    lcdm = old["decoder"].pop("lcdm")
    old["decoder"].pop("kind")
    old["decoder"]["reading"] = {"name": lcdm["name"], "lcdm": lcdm["uncertainty"]}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(old))
    assert DCDDRun.from_yaml(tmp_path / "run.yaml") == run.vary({"distribution": AnySharpness()})


def test_two_jobs_of_one_run_start_from_the_same_weights_whatever_was_drawn_before(run):
    torch.manual_seed(1)
    one = run.job().objective.state_dict()
    torch.manual_seed(2)
    two = run.job().objective.state_dict()
    other = run.vary({"train.seed": 1}).job().objective.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_images_are_encoded_once_for_all_rows_that_share_them(run, tmp_path):
    run.job()
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.safetensors")}
    run.vary({"decoder.lcdm": Committed(), "train.steps": 9}).job()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.safetensors")} == written


@pytest.mark.parametrize(
    "change",
    [
        {"images.count": 13},
        {"images.world.jitter": 0.5},
        {"distribution": TeacherForced(guidance=2.0)},
    ],
)
def test_what_the_arrays_depend_on_names_their_folder(run, tmp_path, change):
    run.job()
    run.vary(change).job()
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_teacher_forced_observations_are_kept_per_guidance_and_lcdm(run, tmp_path):
    first = run.vary({"distribution": TeacherForced(guidance=2.0)})
    for each in (first, first.vary({"distribution.guidance": 3.0}), first.vary({"decoder.lcdm": Committed()})):
        each.job()
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_other_latent_statistics_are_other_latents(run, tmp_path, embedded):
    """Shift and scale live in the VAE's config, not among its weights."""
    run.job()
    folder = tmp_path / "vae"
    folder.mkdir()
    for path in resolve("mini/vae").iterdir():
        (folder / path.name).write_text(path.read_text().replace('"scaling_factor": 1.0', '"scaling_factor": 0.5')) if (
            path.suffix == ".json"
        ) else (folder / path.name).write_bytes(path.read_bytes())
    run.vary({"decoder.space.name": str(folder)}).job()
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize(("part", "folders"), [("decoder.conv_out.weight", 1), ("encoder.conv_in.weight", 2)])
def test_only_a_new_encoder_means_encoding_anew(run, tmp_path, part, folders):
    run.job()
    space = VAE.from_pretrained(resolve("mini/vae"))
    space.autoencoder.get_parameter(part).data.mul_(1.5)
    save_vae(space.autoencoder, tmp_path / "vae")
    run.vary({"decoder.space.name": str(tmp_path / "vae")}).job()
    assert len(list((tmp_path / "cache").iterdir())) == folders


def test_a_folder_of_fewer_pictures_than_the_preview_shows_will_do(run, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(3):
        Image.new("RGB", (20, 24), (80 * number, 0, 0)).save(pictures / f"{number}.png")
    run = run.vary({"images": FolderImages(path=str(pictures), size=stack.PIXELS), "train.steps": 1})
    train(run.job(), run.train, tmp_path / "run")
    with Image.open(tmp_path / "run" / "preview.png") as sheet:
        assert sheet.height == 2 * 2 * stack.PIXELS


def test_sampled_latents_scatter_around_the_mode_by_the_posterior_s_spread(run, tmp_path):
    plain, drawn = run.job(), run.vary({"latents": Sample()}).job()
    assert len(list((tmp_path / "cache").iterdir())) == 2
    batch, seeds = drawn.batches(0, 12), torch.arange(12)
    assert torch.equal(batch["latents"], plain.batches(0, 12)["latents"])
    space = drawn.objective.dcdd.decoder.space
    images = SOURCE.open().images(torch.randperm(12, generator=torch.Generator().manual_seed(0)).tolist())
    posterior = space.autoencoder.encode(images).latent_dist
    torch.testing.assert_close(batch["spread"], posterior.std * space.scale, atol=2e-3, rtol=1e-2)
    clean = drawn.objective._clean(batch | {SEEDS: seeds})
    unit = (clean - batch["latents"]) / batch["spread"]
    assert unit.mean().item() == pytest.approx(0, abs=0.1)
    assert unit.std().item() == pytest.approx(1, abs=0.1)
    assert torch.equal(clean, drawn.objective._clean(batch | {SEEDS: seeds}))
    assert not torch.equal(clean, drawn.objective._clean(batch | {SEEDS: seeds + 12}))


def test_new_layers_learn_at_a_rate_of_their_own(run, tmp_path):
    """The first step of AdamW moves a weight by its learning rate."""
    job = run.vary({"new_lr_scale": 10.0, "decoder.scope": Attention()}).job()
    before = {name: weight.detach().clone() for name, weight in job.objective.named_parameters()}
    train(job, run.train.vary({"steps": 1, "lr": 1e-3, "weight_decay": 0.0, "ema_decay": 0.0}), tmp_path / "run")
    moved = {name: (w.detach() - before[name]).abs().max().item() for name, w in job.objective.named_parameters()}
    new = [name for name in moved if "x_embedder.condition" in name]
    attention = [name for name in moved if ".attn." in name and moved[name]]
    assert [moved[name] for name in new] == pytest.approx([1e-2], rel=0.02)
    assert max(moved[name] for name in attention) == pytest.approx(1e-3, rel=0.02)
    assert {name for name, size in moved.items() if size > 2e-3} == set(new), "the encoder waits for the zero columns"


def trained(run: DCDDRun, folder: Path) -> DCDD:
    train(run.job(), run.train, folder)
    return load(folder)


def test_a_run_goes_on_from_a_decoder(run, tmp_path):
    start = trained(run, tmp_path / "first")
    again = run.vary({"start": str(tmp_path / "first")}).job().objective.dcdd
    for name, tensor in start.learned().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, msg=name)


def test_an_lcdm_with_more_columns_starts_as_the_decoder_it_goes_on_from(run, tmp_path):
    """`Committed` of a one-hot distribution adds nothing new, and its columns start at zero."""
    start = trained(run, tmp_path / "first")
    wider = run.vary({"decoder.lcdm": Committed(), "start": str(tmp_path / "first")}).job().objective.dcdd
    weight, before = wider.encoder.fc.weight, start.encoder.fc.weight
    torch.testing.assert_close(weight[:, :8], before)
    assert weight[:, 8:].abs().sum() == 0
    p = torch.eye(64)[torch.arange(16) % 64].unsqueeze(0)
    ids, grid = p.argmax(-1), load_tokenizer("mini").grid
    conditions = [
        each.encode(lcdm(p, ids, start.codebook), grid) for each, lcdm in ((start, Expectation()), (wider, Committed()))
    ]
    torch.testing.assert_close(*conditions)


def test_an_lcdm_with_fewer_columns_takes_the_shared_ones(run, tmp_path):
    committed = run.vary({"decoder.lcdm": Committed()})
    start = trained(committed, tmp_path / "first")
    narrow = run.vary({"start": str(tmp_path / "first")}).job().objective.dcdd
    torch.testing.assert_close(narrow.encoder.fc.weight, start.encoder.fc.weight[:, :8])


@pytest.mark.parametrize(
    ("change", "clue"),
    [
        ({"decoder.net.single_layers": 2}, "single_transformer_blocks.1"),
        ({"decoder.condition.width": 16}, "is"),
    ],
)
def test_a_decoder_of_another_net_is_no_start(run, tmp_path, change, clue):
    trained(run, tmp_path / "first")
    with pytest.raises(ValueError, match=f"cannot start from .+{clue}"):
        run.vary({**change, "start": str(tmp_path / "first")}).job()


def test_a_start_that_lacks_weights_is_refused(run, tmp_path):
    dcdd = trained(run, tmp_path / "first")
    weights = load_tensors(tmp_path / "first" / WEIGHTS)
    del weights[READS]
    save_tensors(tmp_path / "first" / WEIGHTS, weights)
    with pytest.raises(ValueError, match=f"{READS} is in only one of the two decoders"):
        begin_from(dcdd, tmp_path / "first")


def test_a_start_on_the_codes_of_another_tokenizer_is_refused(run, tmp_path):
    dcdd = trained(run, tmp_path / "first")
    dcdd.codebook.copy_(dcdd.codebook.flip(0))
    with pytest.raises(ValueError, match="it was trained on the codes of another tokenizer"):
        begin_from(dcdd, tmp_path / "first")


def test_accumulated_rounds_train_the_same_decoder(run, tmp_path):
    for name, rounds in (("whole", 1), ("parts", 2)):
        train(run.job(), run.train.vary({"accumulate": rounds}), tmp_path / name)
    rows = [read_log(tmp_path / name / "log.jsonl") for name in ("whole", "parts")]
    assert [row["loss"] for row in rows[0]] == pytest.approx([row["loss"] for row in rows[1]], rel=1e-4)


def test_checkpointing_trains_the_same_decoder(run, tmp_path):
    for name, checkpointing in (("plain", False), ("recomputed", True)):
        train(run.job(), run.train.vary({"checkpointing": checkpointing}), tmp_path / name)
    rows = [read_log(tmp_path / name / "log.jsonl") for name in ("plain", "recomputed")]
    assert [row["loss"] for row in rows[0]] == pytest.approx([row["loss"] for row in rows[1]], rel=1e-5)
