"""The loop: what a batch may be split into, when it stops, what it leaves behind."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from accelerate.tracking import GeneralTracker
from torch import nn

from detokenizers.checkpoint import load_tensors
from detokenizers.seeds import item_seeds
from detokenizers.training import TrainConfig, loop, train
from detokenizers.training.draws import SEEDS
from detokenizers.training.loop import recompute_activations
from detokenizers.training.report import read_log
from detokenizers.training.schedules import Constant, Cosine
from detokenizers.training.state import STATE, whole_state
from detokenizers.training.train_settings import lr_factor

from . import toy

CONFIG = toy.CONFIG


class Breaks(nn.Module):
    """Loss or gradient stop being finite at one step."""

    def __init__(self, at: int, how: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.at, self.how, self.step = at, how, 0

    def forward(self, batch):
        loss = self.weight.square().sum()
        if self.step == self.at:
            loss = loss * float("nan") if self.how == "loss" else loss + (self.weight * 0).sum().sqrt()
        self.step += 1
        return {"loss": loss}


class Remembers(GeneralTracker):
    """A tracker that keeps what it is told."""

    name = "remembers"
    requires_logging_directory = False

    def __init__(self) -> None:
        super().__init__()
        self.settings, self.rows, self.finished = {}, [], False

    @property
    def tracker(self):
        return self

    def store_init_configuration(self, values):
        self.settings = values

    def log(self, values, step=None, **_):
        self.rows.append((step, values))

    def finish(self):
        self.finished = True


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_tensors(folder / toy.WEIGHTS)


def test_a_run_learns_and_leaves_weights_state_log_and_curve(tmp_path):
    losses = train(toy.job(), CONFIG.vary({"steps": 60}), tmp_path)
    rows = read_log(tmp_path / "log.jsonl")
    assert losses["loss"] == rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert [row["step"] for row in rows] == list(range(60))
    assert {"step", "loss", "root", "grad_norm", "seconds"} == rows[0].keys()
    assert {path.name for path in tmp_path.iterdir()} == {toy.WEIGHTS, STATE, "log.jsonl", "loss.png"}


def test_two_runs_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        train(toy.job(), CONFIG, tmp_path / name)
    assert (tmp_path / "one" / toy.WEIGHTS).read_bytes() == (tmp_path / "two" / toy.WEIGHTS).read_bytes()


@pytest.mark.parametrize("rounds", [2, 4])
def test_accumulated_rounds_give_the_weights_of_the_whole_batch(tmp_path, rounds):
    train(toy.job(), CONFIG, tmp_path / "whole")
    train(toy.job(), CONFIG.vary({"accumulate": rounds}), tmp_path / "parts")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.pop("calls") * rounds == parts.pop("calls") == 12 * rounds
    for name, weight in whole.items():
        torch.testing.assert_close(parts[name], weight, atol=1e-6, rtol=1e-5)
    logs = [read_log(tmp_path / name / "log.jsonl") for name in ("whole", "parts")]
    assert [row["loss"] for row in logs[0]] == pytest.approx([row["loss"] for row in logs[1]], rel=1e-5)


def test_a_batch_that_does_not_divide_is_refused(tmp_path):
    with pytest.raises(ValueError, match="batch_size 8 does not divide among 1 processes x 3 accumulation rounds"):
        train(toy.job(), CONFIG.vary({"accumulate": 3}), tmp_path)


@pytest.mark.parametrize(
    ("how", "message"), [("loss", "the loss became nan"), ("gradient", "the grad norm became nan")]
)
def test_a_loss_that_is_not_finite_stops_in_one_line_and_keeps_the_last_good_state(tmp_path, how, message):
    with pytest.raises(ValueError, match=message) as caught:
        train(toy.job(objective=Breaks(3, how)), toy.SAVING, tmp_path)
    assert "at step 3; train with a lower train.lr (it is 0.01) or in fp32, into a new folder" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert whole_state(tmp_path)["step"] == 3
    assert [row["step"] for row in read_log(tmp_path / "log.jsonl")] == [0, 1, 2]


def test_a_loss_that_broke_between_two_logged_steps_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="at step 4"):
        train(toy.job(objective=Breaks(3, "loss")), toy.SAVING.vary({"log_every": 2}), tmp_path)
    assert whole_state(tmp_path)["step"] == 3


def test_nothing_is_saved_between_steps_that_are_close_in_time(tmp_path):
    kept = []
    job = toy.job(preview=lambda _: kept.append(1) or torch.zeros(1, 3, 4, 4))
    train(job, CONFIG.vary({"save_minutes": 60.0}), tmp_path)
    assert kept == [1]


class Clock:
    """Stands still but where it is told to go on."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("minutes", "a_save", "saved_after"),
    [
        (0.05, 0.0, [3, 6, 9, 12]),  # every three seconds, and at the end
        (0.05, 0.25, [3, 8, 12]),  # twenty times a quarter of a second after the first
        (0.05, 10.0, [3, 12]),
        (0.0, 10.0, list(range(1, 13))),
    ],
)
def test_states_that_take_long_are_kept_less_often(tmp_path, monkeypatch, minutes, a_save, saved_after):
    clock, saved = Clock(), []

    def batches(part, size):
        clock.now += 1.0
        return toy.images(part, size)

    def save(folder, objective, optimizer, ema, step):
        clock.now += a_save
        saved.append(step)

    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(loop, "save_state", save)
    train(toy.job(batches=batches), CONFIG.vary({"save_minutes": minutes}), tmp_path)
    assert saved == saved_after


def test_the_preview_is_drawn_in_eval_mode_with_averaged_weights(tmp_path):
    seen = []

    def preview(objective):
        seen.append((objective.training, objective.head.weight.clone()))
        return torch.zeros(1, 3, 4, 4)

    train(toy.job(preview=preview), CONFIG, tmp_path)
    assert (tmp_path / "preview.png").exists()
    assert not any(training for training, _ in seen)
    assert torch.equal(seen[-1][1], whole_state(tmp_path)["ema/head.weight"])
    assert torch.equal(seen[-1][1], weights(tmp_path)["head.weight"])


def test_the_held_out_loss_is_computed_with_averaged_weights_and_changes_nothing(tmp_path):
    held = toy.images(1000, 8)
    train(toy.job(held_out=lambda: held), toy.SAVING, tmp_path / "looking")
    train(toy.job(), toy.SAVING, tmp_path / "blind")
    looking, blind = (read_log(tmp_path / name / "log.jsonl") for name in ("looking", "blind"))
    assert [row["loss"] for row in looking] == [row["loss"] for row in blind]
    assert len({row["held_out"] for row in looking}) == len(looking)
    toy_in_the_end = toy.Toy().eval()
    toy_in_the_end.load_state_dict(weights(tmp_path / "looking"))
    seeded = held | {SEEDS: item_seeds(0, 0, 8)}
    assert looking[-1]["held_out"] == pytest.approx(toy_in_the_end(seeded)["loss"].item(), rel=1e-5)


def test_held_out_items_wait_until_the_state_is_kept(tmp_path):
    train(toy.job(held_out=lambda: toy.images(1000, 8)), CONFIG.vary({"save_minutes": 60.0}), tmp_path)
    assert ["held_out" in row for row in read_log(tmp_path / "log.jsonl")] == [False] * 11 + [True]


def test_without_ema_the_last_weights_are_exported(tmp_path):
    train(toy.job(), CONFIG.vary({"ema_decay": 0.0}), tmp_path)
    state = whole_state(tmp_path)
    assert torch.equal(weights(tmp_path)["head.weight"], state["trained/head.weight"])
    assert not any(name.startswith("ema/") for name in state)


def test_half_precision_trains_weights_that_stay_single(tmp_path):
    losses = train(toy.job(), CONFIG.vary({"steps": 40, "precision": "bf16"}), tmp_path / "bf16")
    single = train(toy.job(), CONFIG.vary({"steps": 40}), tmp_path / "fp32")
    assert losses["loss"] != single["loss"]
    assert losses["loss"] == pytest.approx(single["loss"], rel=0.2)
    assert {tensor.dtype for tensor in weights(tmp_path / "bf16").values()} == {torch.float32}


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_is_only_exported_again(tmp_path):
    train(toy.job(), CONFIG, tmp_path)
    state, exported = contents(tmp_path / STATE), weights(tmp_path)
    (tmp_path / toy.WEIGHTS).unlink()
    assert train(toy.job(seed=1), CONFIG, tmp_path) == {}
    assert contents(tmp_path / STATE) == state
    assert torch.equal(weights(tmp_path)["head.weight"], exported["head.weight"])


def test_every_weight_learns_at_its_own_pace(tmp_path):
    """The first step of AdamW moves a weight by its learning rate, whatever the size of its gradient."""
    job = toy.job(pace=lambda name: {"stem": 2.0, "head": 0.5}.get(name.split(".")[0], 1.0))
    before = {name: weight.detach().clone() for name, weight in job.objective.named_parameters()}
    train(job, CONFIG.vary({"steps": 1, "warmup": 0, "weight_decay": 0.0, "ema_decay": 0.0}), tmp_path)
    moved = {name: (w.detach() - before[name]).abs().max().item() for name, w in job.objective.named_parameters()}
    for name, size in (("stem.weight", 0.02), ("blocks.0.conv.weight", 0.01), ("head.weight", 0.005)):
        assert moved[name] == pytest.approx(size, rel=0.02), name
    assert moved["blocks.0.frozen.weight"] == 0


def test_a_run_cannot_end_before_the_step_it_has_reached(tmp_path):
    train(toy.job(), CONFIG, tmp_path)
    with pytest.raises(ValueError, match=r"has been trained for 12 steps already; train\.steps is 8"):
        train(toy.job(), CONFIG.vary({"steps": 8}), tmp_path)


def test_no_steps_export_the_first_weights(tmp_path):
    assert train(toy.job(), CONFIG.vary({"steps": 0}), tmp_path) == {}
    assert torch.equal(weights(tmp_path)["head.weight"], toy.job().objective.state_dict()["head.weight"])


def test_a_tracker_receives_settings_and_rows_and_is_closed(tmp_path, monkeypatch):
    tracker = Remembers()
    monkeypatch.setattr("accelerate.accelerator.filter_trackers", lambda *_: [tracker])
    train(toy.job(), CONFIG.vary({"track": "wandb"}), tmp_path)
    assert tracker.settings["batch_size"] == 8
    assert [step for step, _ in tracker.rows] == list(range(12))
    assert tracker.rows[-1][1]["loss"] == read_log(tmp_path / "log.jsonl")[-1]["loss"]
    assert tracker.finished


@pytest.mark.parametrize(("track", "message"), [("comet_ml", "it is not installed"), ("abacus", "abacus")])
def test_a_tracker_that_is_not_there_is_one_clear_line(tmp_path, track, message):
    with pytest.raises(ValueError, match=message):
        train(toy.job(), CONFIG.vary({"track": track}), tmp_path)


def test_checkpointing_recomputes_activations_and_changes_no_gradient():
    from tests.dcdd.tiny import FLUX

    torch.manual_seed(0)
    net = FLUX.build(4, lambda images: torch.zeros(1, 4, images.shape[-2] // 4, images.shape[-1] // 4))
    net.requires_grad_(True)
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.1)
    calls = []
    net.transformer.single_transformer_blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))

    def gradients() -> dict[str, torch.Tensor]:
        net.zero_grad()
        torch.manual_seed(1)
        out = net(torch.randn(2, 4, 4, 4), torch.tensor([0.2, 0.7]), torch.randn(2, 1, 4, 4))
        out.square().mean().backward()
        return {name: weight.grad.clone() for name, weight in net.named_parameters() if weight.grad is not None}

    plain = gradients()
    assert len(calls) == 1
    recompute_activations(nn.ModuleList([net]))
    for name, gradient in gradients().items():
        torch.testing.assert_close(gradient, plain[name])
    assert len(calls) == 3


def test_checkpointing_needs_a_model_that_can(tmp_path):
    with pytest.raises(ValueError, match="Toy holds no model that can recompute"):
        train(toy.job(), CONFIG.vary({"checkpointing": True}), tmp_path)


def test_the_rate_warms_up_in_a_line_and_ends_in_half_a_cosine():
    config = TrainConfig(steps=110, warmup=10, schedule=Cosine(final=0.1))
    assert lr_factor(0, config) == pytest.approx(0.1)
    assert lr_factor(9, config) == lr_factor(10, config) == 1
    assert lr_factor(60, config) == pytest.approx(0.55)
    assert lr_factor(110, config) == pytest.approx(0.1)
    assert all(math.isclose(lr_factor(step, config.vary({"schedule": Constant()})), 1) for step in range(9, 110))


@pytest.mark.parametrize("change", [{"log_every": 0}, {"batch_size": 0}, {"ema_decay": 1.0}, {"precision": "half"}])
def test_settings_that_cannot_work_are_refused_before_training(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        CONFIG.vary(change)
